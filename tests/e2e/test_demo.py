"""`preview demo` as people and programs run it: a process of its own, told by what it prints and by what is left."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provider.demo.leftovers import PREFIX
from provider.demo.processes import SEARCH_PATH, clean_environment, run

pytestmark = pytest.mark.timeout(300)  # a whole demo, beside other workers

BUILD_NETWORKS = Path("/run/x1-preview-builds")
SIDE_BY_SIDE = ("old", "new")


@dataclass
class Demo:
    """A demo that runs: its process, and the temporary folder that it has for itself."""

    process: asyncio.subprocess.Process
    folder: Path
    stale_networks: set[str]
    lines: list[str] = field(default_factory=list)
    bridges: set[str] = field(default_factory=set)

    async def until(self, pattern: str) -> str:
        """Read what it says until a line matches; returns that line."""
        assert self.process.stderr
        while line := (await self.process.stderr.readline()).decode():
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"ended without {pattern!r}:\n{''.join(self.lines)}")

    async def up(self, pattern: str = "Up in") -> None:
        """Wait until its stack (or more) is up, and note the bridges of its networks."""
        await self.until(pattern)
        for network in self.folder.glob("*/engine/networks/*.json"):
            self.bridges.add(json.loads(network.read_text())["network_interface"])

    async def end(self) -> tuple[int, str]:
        """Wait for its end; its exit status and stdout. What it says goes to `lines`."""
        stdout, stderr = await self.process.communicate()
        self.lines += stderr.decode().splitlines(keepends=True)
        assert self.process.returncode is not None
        return self.process.returncode, stdout.decode()

    @property
    def said(self) -> str:
        return "".join(self.lines)


@contextlib.asynccontextmanager
async def demo(*arguments: str, before: tuple[str, ...] = ()) -> AsyncIterator[Demo]:
    """A demo with a temporary folder of its own. What a person reads comes by stderr, see `PLAIN`."""
    with tempfile.TemporaryDirectory(prefix="x1d-", dir="/tmp") as folder:
        command = (sys.executable, "-m", "provider", "demo", *arguments)
        process = await asyncio.create_subprocess_exec(
            *(*before, *command),
            env={**os.environ, "TMPDIR": folder, "NO_COLOR": ""},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield Demo(process, Path(folder), stale_build_networks())
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                await process.communicate()


PLAIN = ("sh", "-c", 'exec "$0" "$@" >&2')


def stale_build_networks() -> set[str]:
    """Namespaces of builds that nobody has any more: a living builder holds the lock of its number."""
    stale = set()
    for namespace in BUILD_NETWORKS.glob("netns-*"):
        lock = BUILD_NETWORKS / f"{namespace.name.removeprefix('netns-')}.lock"
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if namespace.exists():  # its builder may have ended, and removed it, since they were listed
                stale.add(namespace.name)
    return stale


def processes_with(folder: Path) -> list[str]:
    """Every process that has anything to do with the folder: by arguments, environment or mounts."""
    return [told for entry in Path("/proc").iterdir() if entry.name.isdigit() and (told := _told(entry, folder))]


def _told(process: Path, folder: Path) -> str:
    with contextlib.suppress(OSError):
        texts = [(process / name).read_bytes() for name in ("cmdline", "environ", "mountinfo")]
        if any(os.fsencode(folder) in text for text in texts):
            return texts[0].replace(b"\0", b" ").decode(errors="replace")
    return ""


async def assert_nothing_left(ended: Demo) -> None:
    assert list(ended.folder.iterdir()) == []
    assert processes_with(ended.folder) == []
    mounts = await asyncio.to_thread(Path("/proc/self/mounts").read_text)
    assert str(ended.folder) not in mounts
    for command in (("ip", "-brief", "link"), ("iptables-save",)):
        _, output = await run(*command, env=clean_environment(Path("/")), timeout=10)
        assert not [bridge for bridge in ended.bridges if bridge in output]
    assert stale_build_networks() <= ended.stale_networks


def no_control_characters(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


# -------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
async def once() -> AsyncIterator[tuple[Demo, int, str]]:
    """One whole demo, ended."""
    async with demo("--once", "--json") as running:
        await running.up("Up and verified")
        assert running.bridges
        status, stdout = await running.end()
        yield running, status, stdout


async def test_each_step_does_what_it_should(once: tuple[Demo, int, str]) -> None:
    running, status, stdout = once
    outcome = json.loads(stdout)
    assert status == 0, running.said
    assert outcome["ok"]
    assert outcome["removed"]
    assert outcome["error"] is None
    assert [step["step"] for step in outcome["steps"]] == [1, 2, 3, 4]
    for step in [*outcome["steps"], outcome["teardown"]]:
        assert step["ok"]
        assert [check for check in step["checks"] if not check["ok"]] == []


async def test_json_is_all_there_is_on_stdout(once: tuple[Demo, int, str]) -> None:
    running, _, stdout = once
    assert stdout.count("\n") == 1
    assert stdout.startswith("{")
    assert "All 4 steps did what they should." in running.said


async def test_the_replies_are_those_of_the_contract(once: tuple[Demo, int, str]) -> None:
    first, second, failures, again = steps(once)
    assert first["reply"]["ok"]
    assert first["reply"]["built"]
    assert re.fullmatch(r"https://hello\.preview\.localhost:\d+", first["reply"]["url"])
    assert second["reply"]["url"] == first["reply"]["url"]
    sha = second["reply"]["commit_sha"]
    assert sha != first["reply"]["commit_sha"]
    broken, unhealthy = (deploy["reply"] for deploy in failures["deploys"])
    assert (broken["code"], broken["phase"]) == ("kaniko_build_failed", "build")
    assert (unhealthy["code"], unhealthy["phase"]) == ("deployment_not_ready", "rollout")
    for reply in (broken, unhealthy):
        assert reply["still_serving"] == sha
        assert reply["whose"] == "user"
        assert reply["reason"]
        assert reply["hint"]
        assert reply["log_tail"]
    assert again["reply"]["commit_sha"] == sha
    assert again["reply"]["built"] is False
    deleted = json.loads(once[2])["teardown"]["reply"]["deleted"]
    assert deleted[:3] == ["ingress/hello", "service/hello", "deployment/hello"]


async def test_no_request_fails_while_the_second_commit_takes_over(once: tuple[Demo, int, str]) -> None:
    load = steps(once)[1]["load"]
    assert load["failed"] == 0
    assert load["requests"] > 50
    assert all(load[which] > 0 for which in SIDE_BY_SIDE)
    assert sum(load[which] for which in SIDE_BY_SIDE) == load["requests"]


async def test_nothing_is_left_of_it(once: tuple[Demo, int, str]) -> None:
    await assert_nothing_left(once[0])


def steps(once: tuple[Demo, int, str]) -> list[dict[str, Any]]:
    return list(json.loads(once[2])["steps"])


async def test_it_stays_up_until_ctrl_c_and_can_be_used() -> None:
    async with demo(before=PLAIN) as running:
        await running.up("stays up until Ctrl-C")
        curl = (await running.until(r"curl --cacert")).split()[1:]
        bus = (await running.until(r"export NATS_URL=")).rpartition("=")[2].strip()
        await running.until(r"status hello")
        env = {"PATH": SEARCH_PATH, "NATS_URL": bus}
        status, page = await run(*curl, "--silent", "--show-error", env=env, timeout=10)
        assert status == 0, page
        assert "Say it in green, without a pause" in page
        status, record = await run(sys.executable, "-m", "provider", "status", "hello", "--json", env=env, timeout=20)
        assert status == 0, record
        assert json.loads(record)["state"] == "ready"
        running.process.send_signal(signal.SIGINT)
        status, _ = await running.end()
        assert status == 130
        assert no_control_characters(running.said)
        assert running.lines[-1].rstrip().endswith("nothing is left.")
        await assert_nothing_left(running)


async def test_an_interrupted_build_leaves_nothing() -> None:
    async with demo("--once", "--json") as running:
        await running.until(r"admit .* ms")  # the build is next
        for _ in range(3):  # people press it more than once
            running.process.send_signal(signal.SIGINT)
        status, stdout = await running.end()
        assert status == 130
        assert json.loads(stdout)["error"] == "interrupted"
        assert "Traceback" not in running.said
        await assert_nothing_left(running)


async def test_an_interrupted_start_leaves_nothing() -> None:
    async with demo(before=PLAIN) as running:
        await running.until(r"Starting")
        running.process.send_signal(signal.SIGINT)
        status, _ = await running.end()
        assert status == 130
        assert "Traceback" not in running.said
        await assert_nothing_left(running)


async def test_a_missing_program_is_named() -> None:
    hidden = 'mount --bind /dev/null "$(command -v caddy)" && exec "$0" "$@"'
    without_caddy = ("unshare", "--mount", "--propagation=private", "sh", "-c", hidden)
    async with demo("--json", before=without_caddy) as running:
        status, stdout = await running.end()
        assert status == 4
        assert "Not installed: caddy (package caddy)." in json.loads(stdout)["error"]
        assert "apt-get install" in running.said
        assert "Traceback" not in running.said
        assert list(running.folder.glob(f"*{PREFIX}*")) == []
