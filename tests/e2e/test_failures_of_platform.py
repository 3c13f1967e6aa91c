"""Codes of a platform that is away or loses what it runs; what served before goes on serving."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from provider.demo.world import World
from tests.e2e.apps import IMPATIENT, app_files, cgi, merged
from tests.e2e.helpers import (
    SLOW_BUILD,
    Visitor,
    builds_below,
    containers,
    deploy,
    deployed,
    eventually,
    refused,
    refused_deploy,
    watched,
    with_settings,
)


@with_settings(BUILD_TIMEOUT="4")
async def test_registry_unreachable(own_world: World, own_guest: Visitor) -> None:
    good, known = await asyncio.gather(deployed(own_world, "noreg"), deployed(own_world, "noreg-known"))
    fresh = app_files("noreg", own_world.base_image, body="new\n")
    # A base image that this machine does not have yet needs the registry as well.
    other = app_files("noreg-base", own_world.base_image.replace("base/busybox", "base/other"))
    await own_world.stack.registry.stop()
    failures = await asyncio.gather(
        refused_deploy(own_world, "noreg", fresh),
        refused(deploy(own_world, "noreg-known", known.commit_sha)),
        refused_deploy(own_world, "noreg-base", other),
    )
    for failed in failures:
        assert (failed.code, failed.phase) == ("registry_unreachable", "build")
        assert (failed.whose, failed.retryable) == ("platform", True)
    assert [one.still_serving for one in failures] == [good.commit_sha, known.commit_sha, None]
    assert await own_guest.commit(good.url) == good.commit_sha
    await own_world.stack.registry.start()
    assert (await deployed(own_world, "noreg", files=fresh)).built


@with_settings(BUILD_TIMEOUT="4", DEPLOY_TIMEOUT="1", VERIFY_TIMEOUT="2", ROLLOUT_TIMEOUT="2")
@pytest.mark.parametrize("part", ["engine", "caddy"])
async def test_platform_unreachable(own_world: World, own_guest: Visitor, part: str) -> None:
    good = await deployed(own_world, "noplat")
    server = {one.name: one for one in own_world.stack.servers}[part]
    sha = await own_world.commit("acme/noplat", app_files("noplat", own_world.base_image, body="new\n"))
    watch = watched(own_world, "noplat", sha)
    await watch.phase("build")
    await server.kill()
    # It is back only after the phase has failed: what was good must be put back before the answer.
    await watch.until(lambda event: event.type == "phase.finished" and not event.data["ok"])
    await server.start()
    failed = await refused(watch.result())
    # Whoever needs Caddy first says so: the switch, or the check of the URL.
    told = {"engine": ("platform_unreachable",), "caddy": ("platform_unreachable", "verify_failed")}[part]
    assert failed.code in told
    assert failed.phase in {"engine": ("build", "deploy"), "caddy": ("verify",)}[part]
    assert (failed.whose, failed.retryable, failed.still_serving) == ("platform", True, good.commit_sha)
    assert await own_guest.commit(good.url) == good.commit_sha
    assert (await deploy(own_world, "noplat", sha)).commit_sha == sha


async def test_builder_that_is_killed_is_started_again_and_then_given_up(world: World, guest: Visitor) -> None:
    files = app_files("killed", world.base_image, dockerfile_extra="RUN echo begun; sleep 1")
    watch = watched(world, "killed", await world.commit("acme/killed", files))
    await watch.line("begun")
    _kill_builder(world)
    done = await watch.result()
    assert await guest.commit(done.url) == done.commit_sha

    files = app_files("killed", world.base_image, dockerfile_extra=SLOW_BUILD)
    watch = watched(world, "killed", await world.commit("acme/killed", files))
    assert watch.task is not None
    while not watch.task.done():
        await eventually(lambda: _killed_or_done(world, watch.task), timeout=60)
    failed = await refused(watch.result())
    assert (failed.code, failed.phase, failed.still_serving) == ("kaniko_create_failed", "build", done.commit_sha)
    assert (failed.whose, failed.retryable) == ("platform", True)


async def _killed_or_done(world: World, task: asyncio.Task[Any] | None) -> bool:
    return bool((task and task.done()) or _kill_builder(world))


def _kill_builder(world: World) -> bool:
    """SIGKILL the builder process of the one build that is under way."""
    found = False
    for folder in builds_below(world.stack.folder):
        try:
            os.kill(int((folder / "alive").read_text()), signal.SIGKILL)
            found = True
        except (OSError, ValueError):
            continue
    return found


async def test_last_good_has_its_own_secret_after_a_failed_deploy(world: World, guest: Visitor) -> None:
    env = {"env": [{"name": "KEY", "from": "secret:KEY"}]}
    page = {"www/cgi-bin/key": cgi('echo "$KEY"')}
    files = app_files("keyed", world.base_image, spec_extra=env) | page
    good = await deployed(world, "keyed", files=files, secret_values={"KEY": "first"})
    bad = app_files("keyed", world.base_image, command="exit 1", spec_extra=merged(IMPATIENT, env)) | page
    failed = await refused_deploy(world, "keyed", bad, secret_values={"KEY": "second"})
    assert failed.still_serving == good.commit_sha
    os.kill((await containers(world.stack, "keyed"))[0]["State"]["Pid"], signal.SIGKILL)

    async def answers() -> bool:
        answer = await guest.get(good.url, "/cgi-bin/key")
        return answer.status_code == 200 and answer.text == "first\n"

    await eventually(answers, what="the last good, started again by the engine, has its own secret")
