"""Claims over a real bus: two providers answer, one session wins, and every decision is audited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from nats.aio.client import Client

from provider.bus.endpoints import Endpoints, Incoming
from provider.bus.events import EventPublisher
from provider.bus.subjects import AUDIT, ENDPOINTS, Subjects
from provider.client import PreviewClient, PreviewFailed
from provider.metrics import Metrics
from provider.pipeline.context import Context
from provider.pipeline.line import Line, limits_of
from provider.platforms.base import Platform
from provider.settings import Settings
from provider.source import Source
from provider.store import Store, open_store
from provider.telemetry import Telemetry
from provider.tenure import Tenure
from provider.tracing import Untraced
from tests.unit.keeping import Told
from tests.unit.test_claims import READY

from .conftest import NatsServer

Connect = Callable[[str], Awaitable[Client]]


@dataclass
class Bus:
    """Two providers' answers to these requests, a client, and what was audited."""

    client: PreviewClient
    store: Store
    audited: asyncio.Queue[dict[str, Any]]

    async def decided(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            return await self.audited.get()


async def _nothing(_: Incoming) -> dict[str, Any]:
    return {"ok": True}


async def _provider(nc: Client, prefix: str) -> tuple[Endpoints, EventPublisher, Store]:
    store = await open_store(nc, Subjects(prefix).bucket_prefix, "here")
    events = EventPublisher(nc, Subjects(prefix), jetstream=True)
    events.start()
    settings = Settings(subject_prefix=prefix, platform_id="here", preview_ttl_max=1000)
    ctx = Context(
        settings=settings,
        platform=cast(Platform, None),
        source=cast(Source, None),
        store=store,
        reporter=Told(),
        line=Line(store=store, limits=limits_of(settings), emit=lambda *_: None),
        logbook=cast(Any, None),
        emit=lambda *_: None,
    )
    handlers = dict.fromkeys(ENDPOINTS, _nothing) | Tenure(ctx=ctx).handlers()
    telemetry = Telemetry(events=events, metrics=Metrics(), tracer=Untraced(), logbook=ctx.logbook)
    endpoints = Endpoints(nc, Subjects(prefix), handlers, telemetry.served)
    await endpoints.start()
    return endpoints, events, store


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
    store = providers[0][2]
    await store.change_preview("my-app", lambda _: READY)
    try:
        yield Bus(PreviewClient(caller, subject_prefix=prefix), store, audited)
    finally:
        hearing.cancel()
        for endpoints, events, _ in providers:
            await endpoints.close(2)
            await events.close()


async def test_of_twenty_sessions_one_gets_the_claim(bus: Bus) -> None:
    calls = [bus.client.claim("my-app", f"s-{number}", 60) for number in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    won = [one for one in answers if not isinstance(one, BaseException)]
    lost = [one for one in answers if isinstance(one, PreviewFailed)]
    assert (len(won), len(lost)) == (1, 19)
    assert won[0].claim is not None
    holder = won[0].claim["session_id"]
    assert {failed.details["claim"]["session_id"] for failed in lost} == {holder}
    assert all(failed.code == "claimed" and holder in failed.message and failed.hint for failed in lost)
    decided = [await bus.decided() for _ in range(20)]
    assert sorted(entry["decided"] for entry in decided) == ["claimed"] * 19 + ["done"]
    record = await bus.store.get_preview("my-app")
    assert record is not None
    assert record.claim is not None
    assert record.claim.session_id == holder


async def test_release_attach_and_force(bus: Bus) -> None:
    first = await bus.client.claim("my-app", "a", 60)
    assert (first.reply["displaced"], first.reply["under_way"]) == (None, None)
    with pytest.raises(PreviewFailed, match="claimed by session a"):
        await bus.client.release("my-app", "b")
    moved = await bus.client.attach("my-app", "b", from_session="a")
    assert (moved.session_id, moved.claim) == ("b", {**(first.claim or {}), "session_id": "b"})
    with pytest.raises(PreviewFailed, match="claimed by session b"):
        await bus.client.claim("my-app", "a", 60)
    forced = await bus.client.claim("my-app", "a", 60, force=True)
    assert forced.reply["displaced"]["session_id"] == "b"
    released = await bus.client.release("my-app", "a")
    assert (released.claim, released.reply["released"]) == (None, True)
    assert (await bus.client.release("my-app", "a")).reply["released"] is False
    actions = [await bus.decided() for _ in range(7)]
    assert [(entry["action"], entry["decided"]) for entry in actions] == [
        ("claim", "done"),
        ("release", "claimed"),
        ("attach", "done"),
        ("claim", "claimed"),
        ("claim", "done"),
        ("release", "done"),
        ("release", "done"),
    ]
    assert (actions[4]["force"], actions[4]["held_before"]["session_id"]) == (True, "b")


async def test_touch_says_when_the_end_is_and_what_is_not_allowed(bus: Bus) -> None:
    before = await bus.store.get_preview("my-app")
    touched = await bus.client.touch("my-app", ttl_seconds=600)
    assert before is not None
    assert touched.last_access is not None
    assert touched.last_access > before.last_access
    assert touched.expires_at is not None
    assert (touched.expires_at - touched.last_access).total_seconds() == 600
    for_ever = await bus.client.touch("my-app", ttl_seconds=0)
    assert for_ever.expires_at is not None
    assert ["for ever (0) is not allowed here" in warning for warning in for_ever.warnings] == [True]


@pytest.mark.parametrize("name", ["touch", "claim", "release", "attach"])
async def test_what_is_not_there_is_not_found(bus: Bus, name: str) -> None:
    calls: dict[str, Callable[[str], Awaitable[object]]] = {
        "touch": bus.client.touch,
        "claim": lambda slug: bus.client.claim(slug, "a", 60),
        "release": lambda slug: bus.client.release(slug, "a"),
        "attach": lambda slug: bus.client.attach(slug, "a"),
    }
    with pytest.raises(PreviewFailed) as caught:
        await calls[name]("nope")
    assert caught.value.code == "not_found"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("claim", {"slug": "my-app"}, "session_id, ttl_seconds"),
        ("claim", {"slug": "my-app", "session_id": "a.b", "ttl_seconds": 1}, "1 to 128 of"),
        ("claim", {"slug": "my-app", "session_id": "a", "ttl_seconds": 604801}, "604800"),
        ("claim", {"slug": "my-app", "session_id": "a", "ttl_seconds": 0}, "greater than or equal to 1"),
        ("touch", {"slug": "my-app", "ttl_seconds": -1}, "greater than or equal to 0"),
        ("attach", {"slug": "My", "session_id": "a"}, "a preview's name"),
    ],
)
async def test_what_cannot_be_is_refused_with_what_is_allowed(
    bus: Bus, name: str, body: dict[str, Any], says: str
) -> None:
    subject = bus.client.subjects.request(name)
    answer = json.loads((await bus.client.nats.request(subject, json.dumps(body).encode(), timeout=5)).data)
    assert answer["ok"] is False
    assert says in answer["message"] + "".join(answer["evidence"])
