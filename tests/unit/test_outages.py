"""Outages: what counts as one, who is let through, and what ends it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import DeployRecord, Owner, Phase, StoredRequest
from provider.pipeline.clock import Clock
from provider.pipeline.outages import Outages, Part, Probe, part_of
from tests.e2e.helpers import eventually

AT = datetime(2026, 1, 2, tzinfo=UTC)
PAUSES = (0.05, 0.1, 0.2)
GIT = Temporary(Code.REPO_UNREACHABLE, "The git host did not answer.", reason="Unreachable")
PUSH = Temporary(Code.REGISTRY_UNREACHABLE, "It did not take it.", reason="PushFailed")
REGISTRY = Temporary(Code.REGISTRY_UNREACHABLE, "It did not answer.", reason="Unreachable")
API = Temporary(Code.PLATFORM_UNREACHABLE, "It did not answer.", reason="Unreachable")


def deploy(number: int, *, installation_id: int | None = None, built: bool = False) -> DeployRecord:
    return DeployRecord(
        platform_id="here",
        deploy_id=f"d{number}",
        owner=Owner(instance="i", epoch=1),
        fingerprint="f",
        request=StoredRequest(repo_full_name="acme/app", branch="main", installation_id=installation_id),
        created_at=AT,
        deadline=AT + timedelta(hours=1),
        built=built,
    )


def outages(**probes: Probe) -> Outages:
    return Outages({Part[name.upper()]: probe for name, probe in probes.items()}, PAUSES)


def failing(found: Outages, error: PreviewError, phase: Phase, times: int = 3) -> None:
    for number in range(times):
        found.failed(deploy(100 + number), phase, error)


def waiting(found: Outages, number: int, phase: Phase = Phase.RESOLVE, seconds: float = 60.0) -> asyncio.Task[None]:
    clock = Clock(time.monotonic() + seconds, time.monotonic() + seconds)
    return asyncio.create_task(found.wait(deploy(number), phase, clock))


async def done(*tasks: asyncio.Task[None], of: int = 1) -> int:
    """Wait until so many of the tasks are done; which the last one is."""

    async def some() -> bool:
        return sum(task.done() for task in tasks) >= of

    await eventually(some)
    return next(number for number, task in enumerate(tasks) if task.done())


async def test_three_failures_are_an_outage() -> None:
    found = outages()
    failing(found, GIT, Phase.RESOLVE, times=2)
    assert found.away(deploy(1), Phase.RESOLVE) is None
    failing(found, GIT, Phase.RESOLVE, times=1)
    outage = found.away(deploy(1), Phase.RESOLVE)
    assert outage is not None
    assert outage.part is Part.GIT
    assert outage.last is not None
    assert (outage.last.code, outage.last.reason) == (GIT.code, GIT.reason)
    assert outage.last.message == "The git host does not answer."
    assert GIT.message not in str(outage.last.evidence), "nobody's own words"
    assert found.away(deploy(1), Phase.BUILD) is None, "builds do without it"


async def test_a_success_in_between_counts() -> None:
    found = outages()
    failing(found, GIT, Phase.RESOLVE, times=2)
    found.worked(deploy(1), Phase.RESOLVE)
    failing(found, GIT, Phase.RESOLVE, times=2)
    assert found.away(deploy(1), Phase.RESOLVE) is None


async def test_one_at_a_time_is_let_through_and_its_success_opens_the_way_for_all() -> None:
    found = outages()
    failing(found, GIT, Phase.RESOLVE)
    tasks = [waiting(found, number) for number in range(5)]
    first = await done(*tasks)
    assert sum(task.done() for task in tasks) == 1
    began = time.monotonic()
    found.failed(deploy(first), Phase.RESOLVE, GIT)
    second = await done(*tasks, waiting(found, first), of=2)
    assert time.monotonic() - began >= PAUSES[1], "the pause grows"
    assert sum(task.done() for task in tasks) <= 2
    for number in (first, second, *range(5)):
        found.worked(deploy(number), Phase.RESOLVE)
    await asyncio.gather(*tasks)
    assert found.away(deploy(9), Phase.RESOLVE) is None


async def test_who_ends_without_finding_out_makes_room_for_another() -> None:
    found = outages()
    failing(found, GIT, Phase.RESOLVE)
    await waiting(found, 1)
    other = waiting(found, 2)
    await asyncio.sleep(0)
    assert not other.done()
    found.release("d1")
    await other


async def test_who_has_little_time_is_let_through_before_a_long_pause_ends() -> None:
    found = Outages({}, (60.0,))
    failing(found, GIT, Phase.RESOLVE)
    began = time.monotonic()
    await waiting(found, 1, seconds=1.4)
    assert time.monotonic() - began < 1.4


async def test_a_registry_is_asked_before_a_build_is_let_through() -> None:
    asked: list[bool] = []
    back = asyncio.Event()

    async def probe() -> None:
        asked.append(back.is_set())
        if not back.is_set():
            raise REGISTRY

    found = outages(registry=probe)
    found.failed(deploy(100), Phase.BUILD, PUSH)
    assert found.away(deploy(1), Phase.BUILD) is not None, "a push was tried often before it was given up"
    build = waiting(found, 1, Phase.BUILD)

    async def asked_often() -> bool:
        return len(asked) >= 3

    await eventually(asked_often)
    assert not build.done()
    back.set()
    await build
    found.worked(deploy(2), Phase.BUILD)
    assert found.away(deploy(3), Phase.BUILD) is not None, "an image that was there already says nothing of pushes"
    found.worked(deploy(1, built=True), Phase.BUILD)
    assert found.away(deploy(3), Phase.BUILD) is None


async def test_the_platform_is_back_where_it_failed_not_before() -> None:
    found = outages()
    failing(found, API, Phase.VERIFY)
    assert found.away(deploy(1), Phase.BUILD) is not None, "no build for what cannot be shown"
    assert found.away(deploy(1), Phase.VERIFY) is None, "what runs already is brought to its end"
    for phase in (Phase.ADMIT, Phase.BUILD, Phase.DEPLOY, Phase.ROLLOUT):
        found.worked(deploy(1, built=True), phase)
    assert found.away(deploy(1), Phase.BUILD) is not None
    found.worked(deploy(1, built=True), Phase.VERIFY)
    assert found.away(deploy(1), Phase.BUILD) is None


async def test_who_needs_no_credentials_does_not_wait_for_them() -> None:
    found = outages()
    failing(found, Temporary(Code.TOKEN_MINT_FAILED, "It is away.", reason="Unreachable"), Phase.RESOLVE)
    assert found.away(deploy(1), Phase.RESOLVE) is None
    assert found.away(deploy(1, installation_id=1), Phase.RESOLVE) is not None
    found.worked(deploy(1), Phase.RESOLVE)
    assert found.away(deploy(1, installation_id=1), Phase.RESOLVE) is not None


CASES: list[tuple[type[PreviewError], Code, str | None, Part | None]] = [
    (Temporary, Code.REPO_UNREACHABLE, "Unreachable", Part.GIT),
    (Temporary, Code.REPO_UNREACHABLE, "CacheLost", None),
    (Permanent, Code.REPO_UNREACHABLE, "RepositoryNotFound", None),
    (Temporary, Code.TOKEN_MINT_FAILED, "Unreachable", Part.CREDENTIALS),
    (Permanent, Code.TOKEN_MINT_FAILED, "Refused", None),
    (Temporary, Code.REGISTRY_UNREACHABLE, "PullFailed", None),
    (Permanent, Code.REGISTRY_UNREACHABLE, "PushRefused", None),
    (Temporary, Code.PLATFORM_UNREACHABLE, "EngineUnreachable", Part.PLATFORM),
    (Temporary, Code.PLATFORM_UNREACHABLE, "EngineFailed", None),
    (Temporary, Code.PLATFORM_UNREACHABLE, "StoreUnreachable", None),
    (Temporary, Code.PLATFORM_UNREACHABLE, "Conflict", None),
    (Permanent, Code.KANIKO_BUILD_FAILED, "RunFailed", None),
]


@pytest.mark.parametrize(("kind", "code", "reason", "part"), CASES)
def test_what_is_whose(kind: Any, code: Code, reason: str, part: Part | None) -> None:
    assert part_of(kind(code, "m", reason=reason)) is part
