"""What people see: the commands on a real pseudo terminal of 80 columns."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

from provider.demo.processes import clean_environment
from tests.bus.asking.scripted import FAILURE, PREFIX, provider
from tests.bus.asking.test_terminal import READY
from tests.bus.conftest import NatsServer

COLUMNS = 80
HINT = "Dockerfile:12: `npm ci` needs a package-lock.json: run `npm install`, commit it, and COPY it before that line."
LONG = {**FAILURE, "whose": "user", "hint": HINT, "evidence": [HINT], "log_tail": ["word " * 40]}


async def shown(server: NatsServer, *arguments: str) -> list[str]:
    """The lines that the command writes to its terminal, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {**clean_environment(Path.cwd()), "NATS_URL": server.url, "SUBJECT_PREFIX": PREFIX, "TERM": "xterm"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "provider", *arguments), env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = await asyncio.to_thread(_all_of, ours)
    await process.wait()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r", "").splitlines()


def _all_of(terminal: int) -> bytes:
    said = b""
    while True:
        try:
            said += os.read(terminal, 65536)
        except OSError:  # nobody has its other end any more
            return said


async def test_a_diagnosis_breaks_between_words_and_goes_on_below_itself(server: NatsServer) -> None:
    async with provider(server, {"ok": False, **LONG}):
        lines = await shown(server, "deploy", "acme/shop", "--branch", "main", "--installation-id", "1")
    log = next(line for line in lines if line.startswith("    | "))
    assert len(log) > COLUMNS, "a log's line is left whole, for who copies it"
    assert all(len(line) <= COLUMNS for line in lines if line != log)
    step = next(number for number, line in enumerate(lines) if line.startswith("  next step"))
    assert lines[step + 1].startswith(" " * 18)
    assert " ".join("\n".join(lines[step : step + 2]).split()) == f"next step {HINT}"
    evidence = lines.index("  evidence:")
    assert lines[evidence + 1].startswith("    - Dockerfile:12")
    assert lines[evidence + 2].startswith("      ")


async def test_a_list_without_room_for_urls_does_without_them(server: NatsServer) -> None:
    both = [{**READY, "slug": "shop"}, {**READY, "slug": "s" * 50, "branch": "a/very/long/branch"}]
    async with provider(server, {"ok": True, "previews": both}):
        lines = await shown(server, "list")
    assert [line.split() for line in lines[:2]] == [["SLUG", "STATE", "AGE"], ["shop", "ready", lines[1].split()[2]]]
    async with provider(server, {"ok": True, "previews": both[:1]}):
        assert "https://shop.preview.test" in (await shown(server, "list"))[1]
