"""Codes of builds and of what runs, each by its real cause; what served before goes on serving."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from provider.client import PreviewFailed
from provider.demo.git_server import Content, File
from provider.demo.world import World
from tests.e2e.apps import IMPATIENT, app_files, merged
from tests.e2e.helpers import (
    SLOW_BUILD,
    Visitor,
    builds_below,
    containers,
    deployed,
    eventually,
    podman,
    refused,
    refused_deploy,
    steady_load,
    watched,
    with_settings,
)

# All causes, each told right, are in the catalogue (tests/faults): here is what else has to hold when one is met.

BROKEN_BUILDS: dict[str, tuple[Content, str, str]] = {
    "run": ("FROM {base}\nRUN echo wrong-here; exit 3\n", "RunFailed", "wrong-here"),
    "link": (File("../../../../../../etc/passwd", "120000"), "DockerfileNotFound", "Dockerfile"),
    "link-to-proc": (File("/proc/self/environ", "120000"), "DockerfileNotFound", "Dockerfile"),
}
"""By name: the Dockerfile, the reason, and what the evidence or the log's tail must show."""


@pytest.mark.parametrize("what", BROKEN_BUILDS)
async def test_kaniko_build_failed(world: World, guest: Visitor, what: str) -> None:
    dockerfile, reason, shown = BROKEN_BUILDS[what]
    text = dockerfile.replace("{base}", world.base_image) if isinstance(dockerfile, str) else dockerfile
    good = await deployed(world, "tobreak", files=app_files("tobreak", world.base_image))
    failed = await refused_deploy(world, "tobreak", app_files("tobreak", world.base_image) | {"Dockerfile": text})
    assert (failed.code, failed.reason, failed.phase) == ("kaniko_build_failed", reason, "build")
    assert (failed.whose, failed.retryable) == ("user", False)
    assert failed.hint
    assert shown in "\n".join((failed.message, *failed.evidence, *failed.log_tail))
    assert "root:x:0" not in str(failed.reply)
    assert failed.still_serving == good.commit_sha
    assert await guest.commit(good.url) == good.commit_sha
    await gone(world, "tobreak")


async def test_failed_first_deploy_serves_nothing(world: World, guest: Visitor) -> None:
    files = app_files("stillborn", world.base_image, command="echo cannot start; exit 3", spec_extra=IMPATIENT)
    failed = await refused_deploy(world, "stillborn", files)
    assert (failed.code, failed.still_serving) == ("deployment_not_ready", None)
    assert (await world.client.status("stillborn")).state == "failed"
    assert (await guest.get("https://stillborn.preview.localhost")).headers["X-Preview-Holding"]
    good = await deployed(world, "stillborn")
    assert await guest.commit(good.url) == good.commit_sha
    assert (await world.client.status("stillborn")).state == "ready"


NOT_READY: dict[str, tuple[dict[str, Any], str, str]] = {
    "crash": ({"command": "echo out of luck; exit 3"}, "CrashLoop", "out of luck"),
    # The engine says nothing of this: what it started ends by itself, with a code of its own.
    "memory-of-a-child": (
        {
            "command": "sh -c 'cat /dev/zero | tr \"\\0\" x | sort'; echo gave up; exit 1",
            "spec": {"resources": {"limits": {"memory": "16Mi"}}},
        },
        "OutOfMemory",
        "gave up",
    ),
}


@pytest.mark.parametrize("what", NOT_READY)
async def test_deployment_not_ready(world: World, guest: Visitor, what: str) -> None:
    wrong, reason, shown = NOT_READY[what]
    name = f"unready-{what}"
    good = await deployed(world, name)
    spec = merged(IMPATIENT, wrong.get("spec", {}))
    files = app_files(name, world.base_image, command=wrong.get("command"), spec_extra=spec)
    async with steady_load(guest, good.url) as load:
        failed = await refused_deploy(world, name, files)
    assert (failed.code, failed.reason, failed.phase) == ("deployment_not_ready", reason, "rollout")
    assert failed.whose == "user"
    assert shown in "\n".join((failed.message, str(failed.hint), *failed.evidence, *failed.log_tail))
    assert failed.still_serving == good.commit_sha
    assert load.failed == []
    assert load.commits == [good.commit_sha]
    running = [one for one in await containers(world.stack, name) if one["State"]["Running"]]
    assert [one["Config"]["Labels"]["preview.x1agent.io/generation"] for one in running] == ["1"]


async def test_app_that_answers_errors_on_its_path_is_not_verified(world: World, guest: Visitor) -> None:
    good = await deployed(world, "teapot")
    spec = {"runtime": {"path": "/", "healthcheck": {"path": "/healthz"}}}
    files = app_files("teapot", world.base_image, spec_extra=spec) | {"www/healthz": "ok\n", "www/index.html": None}
    failed = await refused_deploy(world, "teapot", files)
    assert (failed.code, failed.phase) == ("verify_failed", "verify")
    assert "404" in failed.message
    assert failed.still_serving == good.commit_sha
    assert await guest.commit(good.url) == good.commit_sha


# --------------------------------------------------------------- stopped in the middle


async def gone(world: World, slug: str) -> None:
    """Nothing of a build is left: no process, no folder, no container of its steps."""

    async def nothing() -> bool:
        return not builds_below(world.stack.folder) and builders(world) == []

    await eventually(nothing, what=f"the builder of {slug} is gone")


def builders(world: World) -> list[int]:
    """Processes of builds of this world: builder, podman build, and what runs in RUN."""
    wanted = f"{world.stack.folder}/state/builds/".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@with_settings(BUILD_TIMEOUT="4")
async def test_job_timeout(own_world: World) -> None:
    files = app_files("slow", own_world.base_image, dockerfile_extra=SLOW_BUILD)
    failed = await refused_deploy(own_world, "slow", files)
    assert (failed.code, failed.reason, failed.phase) == ("job_timeout", "BuildDeadline", "build")
    assert any("begun" in line for line in failed.log_tail)
    await gone(own_world, "slow")
    assert await podman(own_world.stack, "ps", "--all", "--external", "--quiet") == ""


async def test_cancel_in_the_build(world: World, guest: Visitor) -> None:
    good = await deployed(world, "stop-me")
    sha = await world.commit("acme/stop-me", app_files("stop-me", world.base_image, dockerfile_extra=SLOW_BUILD))
    watch = watched(world, "stop-me", sha)
    await watch.line("begun")
    cancelled = await world.client.cancel(deploy_id=watch.deploy_id)
    assert (cancelled.deploy_id, cancelled.slug, cancelled.reply["cancelled"]) == (watch.deploy_id, "stop-me", True)
    failed = await refused(watch.result())
    assert (failed.code, failed.phase, failed.still_serving) == ("cancelled", "build", good.commit_sha)
    await gone(world, "stop-me")
    assert await guest.commit(good.url) == good.commit_sha
    again = await world.client.cancel(deploy_id=watch.deploy_id)
    assert again.reply["cancelled"] is True
    assert (await world.client.cancel(deploy_id=good.deploy_id)).reply["cancelled"] is False


async def test_teardown_in_the_build_and_nothing_comes_back(world: World, guest: Visitor) -> None:
    good = await deployed(world, "vanish")
    sha = await world.commit("acme/vanish", app_files("vanish", world.base_image, dockerfile_extra=SLOW_BUILD))
    watch = watched(world, "vanish", sha)
    await watch.line("begun")
    torn = await world.client.teardown("vanish")
    assert "deployment/vanish" in torn.deleted
    failed = await refused(watch.result())
    assert (failed.code, failed.reason, failed.still_serving) == ("cancelled", "TornDown", None)
    await gone(world, "vanish")
    assert await containers(world.stack, "vanish") == []
    assert (await guest.get(good.url)).headers["X-Preview-Holding"]
    assert (await refused(world.client.status("vanish"))).code == "not_found"


async def test_teardown_while_the_app_gets_ready(world: World) -> None:
    command = "sleep 30"
    files = app_files("halfway", world.base_image, command=command)
    watch = watched(world, "halfway", await world.commit("acme/halfway", files))
    await watch.phase("rollout")
    torn = await world.client.teardown("halfway")
    assert "deployment/halfway" in torn.deleted
    assert (await refused(watch.result())).code == "cancelled"
    assert await containers(world.stack, "halfway") == []


async def test_budget_exceeded(world: World) -> None:
    files = app_files("costly", world.base_image, dockerfile_extra=SLOW_BUILD)
    failed = await refused_deploy(world, "costly", files, budget_seconds=3)
    assert (failed.code, failed.phase, failed.reason) == ("budget_exceeded", "build", "BudgetExceeded")
    assert (failed.whose, failed.still_serving) == ("platform", None)
    await gone(world, "costly")


async def test_complaint_4_rapid_pushes(world: World, guest: Visitor) -> None:
    """Five commits asked for at once: the last accepted wins, the others are superseded, nothing is left."""
    good = await deployed(world, "rapid")
    pushes = [app_files("rapid", world.base_image, body=f"{number}\n") for number in range(5)]
    shas = [await world.commit("acme/rapid", files) for files in pushes]
    async with steady_load(guest, good.url) as load:
        watches = [watched(world, "rapid", sha) for sha in shas]
        results = await asyncio.gather(*(watch.result() for watch in watches), return_exceptions=True)
        orders = {(await world.client.status(deploy_id=one.deploy_id)).reply["order"]: one for one in watches}
        last = orders[max(orders)]
        winner = await last.result()

        async def met() -> bool:
            return load.commits[-1:] == [winner.commit_sha]

        await eventually(met, what="a visitor meets the winner")
    failures = [one for one in results if isinstance(one, BaseException)]
    assert [one.code for one in failures if isinstance(one, PreviewFailed)] == ["superseded"] * 4
    assert all("accepted later" in str(one) for one in failures)
    assert winner.commit_sha == shas[watches.index(last)]
    assert await guest.commit(good.url) == winner.commit_sha
    assert load.failed == []
    assert set(load.commits) == {good.commit_sha, winner.commit_sha}
    await gone(world, "rapid")
