"""What is checked before an app gets traffic, and what watches it afterwards."""

from __future__ import annotations

import contextlib
import os
import signal

import httpx

from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.helpers import (
    Visitor,
    deployed,
    eventually,
    refused_deploy,
    serving,
    steady_load,
)

ACCEPTANCE = [
    {"path": "/", "status": 200, "body_contains": "hello", "header": {"Content-Type": "text/html"}},
    {"path": "/data.json", "json": {"state": "ok"}},
    {"path": "/absent", "status": 404},
    {"path": "/", "method": "HEAD"},
    {"path": "/", "body_matches": "(?m)^hel+o$"},
]


async def test_acceptance_checks_pass(world: World) -> None:
    files = app_files("checked", world.base_image) | {"www/data.json": '{"state": "ok", "more": 1}'}
    done = await deployed(world, "checked", files=files, acceptance=ACCEPTANCE)
    names = ["GET /", "GET /", "GET /data.json", "GET /absent", "HEAD /", "GET /"]
    assert [(check["name"], check["ok"]) for check in done.checks] == [(name, True) for name in names]


async def test_candidate_that_fails_acceptance_never_shows(world: World, guest: Visitor) -> None:
    good = await deployed(world, "kept", files=app_files("kept", world.base_image, body="good\n"))
    async with steady_load(guest, good.url) as load:
        failed = await refused_deploy(
            world,
            "kept",
            app_files("kept", world.base_image, body="bad\n"),
            acceptance=[{"path": "/", "body_contains": "good"}],
        )
    assert (failed.code, failed.phase, failed.reason, failed.whose) == (
        "verify_failed",
        "verify",
        "CheckFailed",
        "user",
    )
    assert "'good'" in failed.message
    assert "bad" in failed.message
    assert failed.still_serving == good.commit_sha
    assert load.failed == []
    assert {one.text for one in load.answers} == {"good\n"}
    assert load.commits == [good.commit_sha]
    assert (await world.client.status("kept")).state == "degraded"


async def test_app_that_hangs_is_restarted(world: World, guest: Visitor) -> None:
    health = {"initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    files = app_files("hang", world.base_image, spec_extra={"runtime": {"healthcheck": health}})
    done = await deployed(world, "hang", files=files)
    before = (await serving(world, "hang"))["State"]
    os.kill(before["Pid"], signal.SIGSTOP)

    async def another_process() -> bool:
        now = (await serving(world, "hang"))["State"]
        return bool(now["Running"] and now["Pid"] != before["Pid"])

    await eventually(another_process, timeout=40, what="the container was restarted")

    async def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (await guest.get(done.url)).status_code == 200
        return False

    await eventually(answers, what="the restarted app answers again")


async def test_app_that_crashes_later_is_started_again(world: World, guest: Visitor) -> None:
    done = await deployed(world, "crash")
    before = (await serving(world, "crash"))["State"]["Pid"]
    os.kill(before, signal.SIGKILL)

    async def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (await guest.get(done.url)).status_code == 200
        return False

    await eventually(answers, what="the engine has started the app again")
    assert (await serving(world, "crash"))["State"]["Pid"] not in (0, before)
