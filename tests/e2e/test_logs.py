"""Logs on the engine: a build that says much is told and kept whole, and no secret is in anything that leaves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from provider.client import Event, Look, PreviewFailed, new_deploy_id
from provider.demo.processes import clean_environment, run
from provider.demo.world import World
from provider.store import ObjectShelf, key_of
from tests.e2e.apps import app_files
from tests.e2e.helpers import deploy, deployed, eventually, refused_deploy

pytestmark = pytest.mark.timeout(240)

LINES = 100_000
SECRET = f"{os.urandom(8).hex()}/{os.urandom(8).hex()}"


async def test_a_hundred_thousand_lines_are_kept_whole_and_in_order(world: World) -> None:
    printing = f"COPY said /said\nRUN seq 1 {LINES}; cat /said"
    said = f"token {SECRET[:20]}\n{SECRET[20:]}\n{SECRET.replace('/', '%2F')}\n"
    files = app_files("manylines", world.base_image, dockerfile_extra=printing) | {"said": said}
    heard: list[Event] = []
    deploy_id = new_deploy_id()
    await deployed(
        world,
        "manylines",
        files=files,
        secret_values={"TOKEN": SECRET},
        deploy_id=deploy_id,
        on_event=heard.append,
    )
    record = await world.client.status(deploy_id=deploy_id)
    await world.client.teardown("manylines")
    shelf = await ObjectShelf.open(world.client.nats, world.client.subjects.logs_bucket, most=1 << 20, age=60.0)

    async def found() -> list[str] | None:
        log = await shelf.get(key_of("manylines", str(record.reply["build_inputs"])))
        return [line for piece in log.pieces() for line in piece] if log is not None else None

    lines = await eventually(found, what="the build's log is kept")
    numbers = [line for line in lines if line.isdigit()]
    assert numbers == [str(number) for number in range(1, LINES + 1)]
    assert "token ***" in lines
    text = "\n".join(lines) + json.dumps([event.data for event in heard])
    assert not [form for form in (SECRET, SECRET[:20], SECRET[20:], SECRET.replace("/", "%2F")) if form in text]
    told = [line for event in heard for line in event.data.get("lines", ()) if line.isdigit()]
    assert told == numbers, "a follower of the events got all of them, too"


async def test_a_follower_gets_a_hundred_thousand_lines_fast_and_in_little_memory(world: World) -> None:
    """20,000 lines/s with 30 MB of growth on an idle machine (`make bench` is the judge of that); here half of it."""
    files = app_files("followlines", world.base_image, dockerfile_extra=f"RUN seq 1 {LINES}")
    sha = await world.commit("acme/followlines", files)
    deploy_id, before = new_deploy_id(), memory(world)
    deploying = asyncio.create_task(deploy(world, "followlines", sha, deploy_id=deploy_id))
    looks = await followed(world, deploy_id)
    await deploying
    assert numbers_of(looks) == [str(number) for number in range(1, LINES + 1)], "live, whole and in order"
    began, peak = time.monotonic(), 0
    kept: list[Look] = []
    async for look in world.client.follow(deploy_id=deploy_id, include=["build_logs"]):
        kept.append(look)
        peak = max(peak, memory(world))
    seconds = time.monotonic() - began
    assert numbers_of(kept) == numbers_of(looks), "what is kept is the same"
    assert LINES / seconds > 10_000, f"{LINES / seconds:.0f} lines/s"
    assert peak - before < 60 << 20, f"{(peak - before) >> 20} MB more"


async def followed(world: World, deploy_id: str) -> list[Look]:
    """All of a build's log, from as soon as the deploy is known."""

    async def known() -> bool:
        try:
            return bool(await world.client.status(deploy_id=deploy_id))
        except PreviewFailed:
            return False

    await eventually(known)
    return [look async for look in world.client.follow(deploy_id=deploy_id, include=["build_logs"])]


def numbers_of(looks: list[Look]) -> list[str]:
    return [line for look in looks for line in look.lines if line.isdigit()]


def memory(world: World) -> int:
    """What the provider has of the machine's memory, in bytes."""
    pages = int(Path(f"/proc/{world.provider.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_all_of_a_preview_is_shown(world: World) -> None:
    talking = "echo begun with $TOKEN; echo more >&2; exec httpd -f -p 8080 -h /www"
    env = {"env": [{"name": "TOKEN", "from": "secret:TOKEN"}]}
    files = app_files("looked", world.base_image, command=talking, spec_extra=env)
    done = await deployed(world, "looked", files=files, secret_values={"TOKEN": SECRET})
    seen = await world.client.introspect("looked")
    assert seen.status["state"] == "ready"
    assert [phase["phase"] for phase in seen.phases][:6] == ["resolve", "admit", "build", "deploy", "rollout", "verify"]
    (pod,) = seen.pods
    (container,) = pod["containers"]
    assert (container["state"], container["ready"], container["restarts"]) == ("running", True, 0)
    assert container["image"] == f"{world.stack.registry.address}/previews/looked@{done.digest}"
    assert set(seen.logs) == {"begun with ***", "more"}
    assert any("STEP" in line for line in seen.build_logs)
    assert {event["reason"] for event in seen.events} >= {"start"}
    assert all(event["name"] == pod["name"] for event in seen.events)
    assert (await world.client.introspect("looked", include=["logs"], container="another")).logs == ()
    async for look in world.client.follow("looked", include=["logs"]):
        if look.type == "logs":
            assert "begun with ***" in look.lines
            break
    command = (sys.executable, "-m", "provider", "logs", "looked", "--nats-url", world.stack.nats.address)
    status, said = await run(*command, env=clean_environment(world.stack.folder), timeout=60)
    assert (status, set(said.splitlines())) == (0, {"begun with ***", "more"})
    status, said = await run(*command, "--build", "-f", "--json", env=clean_environment(world.stack.folder), timeout=60)
    messages = [json.loads(line) for line in said.splitlines()]
    assert status == 0
    assert [message["type"] for message in messages] == ["look", "build_logs"]
    again = await world.client.introspect(deploy_id=done.deploy_id, include=["build_logs"], tail=1)
    assert len(again.build_logs) == 1
    assert "build_logs" in again.truncated


async def test_a_failed_first_deploy_shows_how_its_container_ended(world: World) -> None:
    files = app_files("lookfailed", world.base_image, command="echo giving up; exit 7")
    failed = await refused_deploy(world, "lookfailed", files)
    assert failed.code == "deployment_not_ready"
    seen = await world.client.introspect("lookfailed")
    assert seen.status["state"] == "failed"
    (container,) = [one for pod in seen.pods for one in pod["containers"]]
    assert (container["state"], container["exit_code"]) == ("terminated", 7)
    assert "giving up" in seen.logs
    assert any(event["warning"] and event["message"] == "exit code 7" for event in seen.events)
