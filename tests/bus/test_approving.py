"""Approvals over a real bus: two providers take verdicts, the first counts, and whoever waits goes on or ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from nats.aio.client import Client

from provider.approving import Approving
from provider.bus.endpoints import Endpoints, Incoming
from provider.bus.events import EventPublisher
from provider.bus.subjects import AUDIT, ENDPOINTS, Subjects
from provider.client import PreviewClient, PreviewFailed
from provider.errors import Code, Permanent
from provider.metrics import Metrics
from provider.models import Approval, DeployRecord, Owner, Phase, Report, StoredRequest, Verdict, Waiter, now
from provider.pipeline.context import Context
from provider.pipeline.ending import Ending
from provider.pipeline.holding import Holding
from provider.pipeline.line import Line, limits_of
from provider.pipeline.logbook import Logbook
from provider.pipeline.steps import Running, Steps
from provider.platforms.base import Platform
from provider.settings import Settings
from provider.source import Source
from provider.store import Store, open_store
from provider.telemetry import Telemetry
from provider.tracing import Untraced
from tests.e2e.waiting import eventually
from tests.unit.keeping import Told

from .conftest import NatsServer

Connect = Callable[[str], Awaitable[Client]]
ANSWER = Report(ok=False, deploy_id="d", code=Code.AWAITING_APPROVAL, message="held", reason="ApprovalNeeded")
SECONDS_LEFT = 600.0


class Reporter(Told):
    """Remembers answers; an inbox that is `absent` takes none until time is over."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[str, dict[str, Any]]] = []

    async def deliver(self, reply: str, body: Any, deadline: Any, trace: Any = None) -> bool:
        if reply == "absent":
            await asyncio.Event().wait()
        self.answers.append((reply, dict(body)))
        return True


@dataclass
class Provider:
    """One provider's parts that matter here."""

    ctx: Context
    endpoints: Endpoints
    events: EventPublisher
    reporter: Reporter

    @property
    def store(self) -> Store:
        return self.ctx.store

    def holding(self) -> Holding:
        lock = asyncio.Lock()
        return Holding(self.ctx, Steps(self.ctx), Ending(self.ctx, lambda _: lock))


async def _there(found: object) -> bool:
    return bool(found)


async def _nothing(_: Incoming) -> dict[str, Any]:
    return {"ok": True}


async def _provider(nc: Client, prefix: str) -> Provider:
    store = await open_store(nc, Subjects(prefix).bucket_prefix, "here")
    events = EventPublisher(nc, Subjects(prefix), jetstream=True)
    events.start()
    settings, reporter = Settings(subject_prefix=prefix, platform_id="here"), Reporter()
    ctx = Context(
        settings=settings,
        platform=cast(Platform, None),
        source=cast(Source, None),
        store=store,
        reporter=reporter,
        line=Line(store=store, limits=limits_of(settings), emit=lambda *_: None),
        logbook=Logbook(shelf=cast(Any, None), most=0),
        emit=lambda *_: None,
    )
    handlers = dict.fromkeys(ENDPOINTS, _nothing) | Approving(ctx=ctx).handlers()
    telemetry = Telemetry(events=events, metrics=Metrics(), tracer=Untraced(), logbook=ctx.logbook)
    endpoints = Endpoints(nc, Subjects(prefix), handlers, telemetry.served)
    await endpoints.start()
    return Provider(ctx, endpoints, events, reporter)


@dataclass
class Bus:
    """Two providers, a client, and what was audited."""

    client: PreviewClient
    providers: list[Provider]
    audited: asyncio.Queue[dict[str, Any]]

    async def decided(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            return await self.audited.get()

    async def held(self, seconds: float = 60.0, waiters: tuple[str, ...] = ("inbox",)) -> DeployRecord:
        """A deploy of the first provider that waits for that long."""
        at = now()
        record = DeployRecord(
            platform_id="here",
            deploy_id="d",
            owner=Owner(instance="i", epoch=1),
            fingerprint="f",
            request=StoredRequest(repo_full_name="acme/app", branch="main", session_id="s", notify=True),
            waiters=tuple(Waiter(reply=one, deadline=at + timedelta(minutes=1)) for one in waiters),
            created_at=at,
            deadline=at + timedelta(seconds=1),
            phase=Phase.ADMIT,
            slug="app",
            commit_sha="a" * 40,
            approval=Approval(
                rule="r", expires_at=at + timedelta(seconds=seconds), budget_seconds=SECONDS_LEFT, answer=ANSWER
            ),
        )
        return await self.providers[0].store.create_deploy(record)


@pytest.fixture
async def bus(server: NatsServer, connect: Connect, prefix: str) -> AsyncIterator[Bus]:
    caller = await connect(server.url)
    audited: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    heard = await caller.subscribe(AUDIT)

    async def hear() -> None:
        async for message in heard.messages:
            audited.put_nowait(json.loads(message.data))

    hearing = asyncio.create_task(hear())
    await caller.flush()
    providers = [await _provider(await connect(server.url), prefix) for _ in range(2)]
    try:
        yield Bus(PreviewClient(caller, subject_prefix=prefix), providers, audited)
    finally:
        hearing.cancel()
        for one in providers:
            await one.endpoints.close(2)
            await one.ctx.line.close()
            await one.events.close()


async def test_of_many_verdicts_the_first_counts(bus: Bus) -> None:
    await bus.held()
    calls = [
        (bus.client.approve if number % 2 else bus.client.reject)("d", f"person {number}", note="x" * number)
        for number in range(10)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    decisions = {one.decision for one in answers if not isinstance(one, BaseException)}
    refused = [one for one in answers if isinstance(one, PreviewFailed)]
    assert (len(decisions), len(refused)) == (1, 5)
    assert {(one.code, one.reason) for one in refused} == {("conflict", "AlreadyDecided")}
    verdict = await bus.providers[1].store.approvals.get("d")
    assert verdict is not None
    assert {verdict.decision} == decisions
    entries = [await bus.decided() for _ in range(10)]
    assert sorted(one["decided"] for one in entries) == ["conflict"] * 5 + ["done"] * 5
    assert {(one["slug"], one["commit_sha"], one["branch"]) for one in entries} == {("app", "a" * 40, "main")}


async def test_what_does_not_wait_is_not_decided(bus: Bus) -> None:
    with pytest.raises(PreviewFailed, match="no deploy 'other'"):
        await bus.client.approve("other", "ada")
    assert (await bus.decided())["decided"] == "not_found"
    record = await bus.held()
    await bus.providers[0].store.save_deploy(record.model_copy(update={"report": ANSWER}))
    with pytest.raises(PreviewFailed, match="does not wait for an approval"):
        await bus.client.reject("d", "ada")
    for by in ("", "a\nb"):
        with pytest.raises(PreviewFailed) as caught:
            await bus.client.approve("d", by)
        assert caught.value.code in ("invalid_request", "missing_fields")


async def test_who_waits_is_told_at_once_and_goes_on_when_another_provider_was_told(bus: Bus) -> None:
    first = bus.providers[0]
    running = Running(await bus.held(waiters=("inbox", "absent")))
    waiting = asyncio.create_task(first.holding().over(running))
    await eventually(lambda: _there(first.reporter.answers and first.reporter.sessions))
    assert first.reporter.answers == [("inbox", ANSWER.wire())]
    assert "held" in first.reporter.sessions[0][1]
    await bus.client.approve("d", "ada")
    running.news.set()  # the provider's watch of the verdicts says so
    await asyncio.wait_for(waiting, 5)
    record = running.record
    assert (record.approved, record.held, record.failure) == (True, False, None)
    assert abs((record.deadline - now()).total_seconds() - SECONDS_LEFT) < 5, "its budget stood still"
    stored = await first.store.get_deploy("d")
    assert stored is not None
    assert stored.approved
    assert stored.approval is not None
    assert stored.approval.told
    assert len(first.reporter.sessions) == 1


async def test_a_verdict_that_nobody_told_of_is_found(bus: Bus) -> None:
    running = Running(await bus.held())
    await bus.client.reject("d", "ada", note="no")
    await asyncio.wait_for(bus.providers[0].holding().over(running), 5)
    failure = running.record.failure
    assert failure is not None
    assert (failure.code, failure.reason, failure.message) == (
        "policy_denied",
        "ApprovalRefused",
        "ada rejected the deploy: no",
    )


async def test_an_approval_that_comes_too_late_is_none(bus: Bus) -> None:
    running = Running(await bus.held(seconds=0.2))
    await asyncio.wait_for(bus.providers[0].holding().over(running), 5)
    failure = running.record.failure
    assert failure is not None
    assert (failure.code, failure.reason) == ("policy_denied", "ApprovalExpired")
    with pytest.raises(PreviewFailed) as caught:
        await bus.client.approve("d", "ada")
    assert (caught.value.code, caught.value.reason) == ("conflict", "AlreadyDecided")


async def test_a_cancelled_one_waits_no_more(bus: Bus) -> None:
    running = Running(await bus.held())
    waiting = asyncio.create_task(bus.providers[0].holding().over(running))
    await eventually(lambda: _there(running.step))
    running.interrupt(Permanent(Code.CANCELLED, "stopped"))
    await asyncio.wait_for(waiting, 5)
    assert running.record.failure is not None
    assert running.record.failure.code is Code.CANCELLED


async def test_another_installations_verdict_is_none_of_ours(bus: Bus) -> None:
    store = bus.providers[0].store
    await store.approvals.decide("d", Verdict(decision="approved", by="ada", at=now()))
    other = Store(previews=store._previews, deploys=store._deploys, platform_id="elsewhere")
    with pytest.raises(Permanent):
        await other.approvals.get("d")
