"""The commands that look: with a scripted provider behind a real bus, as a pipe and as a terminal would have them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from provider.demo.processes import clean_environment, run
from tests.bus.asking.scripted import FAILURE, PREFIX, cli, provider
from tests.bus.conftest import NatsServer

SERVES = {"commit_sha": "1a2b3c4d5e6f7890", "manifests": []}
READY: dict[str, Any] = {
    "ok": True,
    "slug": "shop",
    "state": "ready",
    "repo_full_name": "acme/shop",
    "branch": "main",
    "commit_sha": "1a2b3c4d5e6f7890",
    "url": "https://shop.preview.test",
    "last_good": SERVES,
    "timed_out": False,
    "updated_at": "2026-01-02T03:04:05.678Z",
}
FAILED = {**READY, "state": "failed", "last_good": None, "failure": {**FAILURE, "whose": "platform"}}


async def test_wait_ends_well_in_the_state_that_was_waited_for(server: NatsServer) -> None:
    async with provider(server, {**READY, "state": "provisioning", "timed_out": True}, READY) as scripted:
        code, out, _ = await cli(server, "wait", "shop", "--timeout", "20")
    assert (code, out.splitlines()[0], scripted.subjects[0]) == (0, "shop", f"{PREFIX}.wait")
    assert "  updated         2026-01-02 03:04:05 UTC" in out.splitlines()
    assert scripted.requests[0]["for"] == ["ready", "degraded", "failed", "awaiting_approval"]


async def test_wait_ends_with_the_diagnosis_when_it_cannot_come_true(server: NatsServer) -> None:
    async with provider(server, FAILED):
        people, programs, wanted = await asyncio.gather(
            cli(server, "wait", "shop"),
            cli(server, "wait", "shop", "--json"),
            cli(server, "wait", "shop", "--for", "failed"),
        )
    assert people[0] == 4
    assert "Failed in phase build: The build failed at step 3." in people[2]
    assert "next step       Fix the RUN step." in people[2]
    assert (programs[0], json.loads(programs[1])["state"]) == (4, "failed")
    assert wanted[0] == 0


async def test_wait_that_takes_too_long_ends_with_5(server: NatsServer) -> None:
    async with provider(server, {**READY, "state": "provisioning", "timed_out": True}):
        code, _, err = await cli(server, "wait", "shop", "--timeout", "0.5")
    assert (code, "shop is still provisioning after 0.5 s" in err) == (5, True)


async def test_events_are_lines_or_json_and_a_preview_has_its_own(server: NatsServer) -> None:
    async with provider(server, READY) as scripted:
        stream = scripted.nats.jetstream()
        await stream.add_stream(name=PREFIX.replace(".", "_") + "_events", subjects=[f"{PREFIX}.events.>"])
        await scripted.emit("d-1", "phase.started", "build")
        await scripted.emit("d-1", "log", "build", lines=["\x1b[31mone", "two"])
        await scripted.emit("d-1", "phase.finished", "build", ok=False, seconds=2.0, code="job_timeout", reason="Slow")
        await scripted.nats.flush()
        people, all_lines, programs, other = await asyncio.gather(
            cli(server, "events", "shop"),
            cli(server, "events", "shop", "--logs", "--since", "1h"),
            cli(server, "events", "--json", "--deploy-id", "d-1"),
            cli(server, "events", "another"),
        )
    began, ended = people[1].splitlines()
    assert began.split()[1:] == ["shop", "build", "began"]
    assert ended.split(None, 3)[3] == "failed: job_timeout (Slow) after 2.0 s"
    assert [line.partition("| ")[2] for line in all_lines[1].splitlines()[1:3]] == ["one", "two"]
    assert [json.loads(line)["type"] for line in programs[1].splitlines()] == ["phase.started", "phase.finished"]
    assert other[:2] == (0, "")


async def test_open_prints_the_url_and_says_when_nothing_serves(server: NatsServer) -> None:
    async with provider(server, READY):
        assert (await cli(server, "open", "shop"))[:2] == (0, "https://shop.preview.test\n")
    async with provider(server, FAILED):
        code, _, err = await cli(server, "open", "shop", "--print")
    assert (code, "nothing serves there yet" in err) == (3, True)


@pytest.mark.parametrize("arguments", [("list", "--watch", "--json"), ("list", "-w")])
async def test_a_watched_list_is_a_line_for_each_change_in_a_pipe(
    server: NatsServer, arguments: tuple[str, ...]
) -> None:
    first, then = {**READY, "state": "provisioning"}, READY
    environment = {**clean_environment(Path.cwd()), "NATS_URL": server.url, "SUBJECT_PREFIX": PREFIX}
    async with provider(server, {"ok": True, "previews": [first]}, {"ok": True, "previews": [then]}) as scripted:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "provider", *arguments), env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            one = (await process.stdout.readline()).decode()
            await scripted.emit("d-1", "state", ok=True)
            other = (await process.stdout.readline()).decode()
        process.terminate()
        await process.wait()
    assert ("provisioning" in one, '"ready"' in other or "  ready  " in other) == (True, True)


async def test_the_shell_completes_slugs_and_stays_quiet_without_a_bus(server: NatsServer) -> None:
    words = {"_PREVIEW_COMPLETE": "complete_bash", "COMP_WORDS": "preview status sh", "COMP_CWORD": "2"}
    env = {**clean_environment(Path.cwd()), **words, "SUBJECT_PREFIX": PREFIX}
    command = (sys.executable, "-m", "provider")
    async with provider(server, {"ok": True, "previews": [READY, {**READY, "slug": "blog"}]}):
        assert await run(*command, env={**env, "NATS_URL": server.url}, timeout=20) == (0, "shop\n")
    status, said = await run(*command, env={**env, "NATS_URL": "nats://127.0.0.1:1"}, timeout=20)
    assert (status, said.strip()) == (0, "")
