"""Events: in order, once each in the stream, never in anybody's way, and honest about what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.aio.client import Client

from provider.bus.connection import settled
from provider.bus.events import EventPublisher
from provider.bus.subjects import AUDIT, Subjects
from provider.models import Event, EventType, Phase

from .conftest import NatsServer

Connect = Callable[[str], Awaitable[Client]]
AT = datetime(2026, 1, 2, tzinfo=UTC)


def event(event_id: str, kind: EventType = EventType.STATE, **data: Any) -> Event:
    return Event(event_id=event_id, slug="my-app", deploy_id="d1", at=AT, type=kind, phase=Phase.BUILD, data=data)


def line(number: int) -> Event:
    return event(f"l{number}", EventType.LOG, lines=[f"line {number}"])


@pytest.fixture
def subjects(prefix: str) -> Subjects:
    return Subjects(prefix)


@pytest.fixture
async def publisher(nc: Client, subjects: Subjects) -> AsyncIterator[EventPublisher]:
    events = EventPublisher(nc, subjects, jetstream=True)
    events.start()
    yield events
    await events.close()


async def flushed(events: EventPublisher) -> None:
    async with asyncio.timeout(20):
        await events.flush()


async def kept(nc: Client, subjects: Subjects) -> list[dict[str, Any]]:
    """Everything in the stream."""
    js = nc.jetstream()
    count = (await js.stream_info(subjects.events_stream)).state.messages
    reader = await js.subscribe(subjects.all_events, ordered_consumer=True)
    return [json.loads((await reader.next_msg(timeout=5)).data) for _ in range(count)]


async def test_events_are_kept_in_order(nc: Client, subjects: Subjects, publisher: EventPublisher) -> None:
    for number in range(50):
        publisher.publish(event(f"e{number}", n=number))
    await flushed(publisher)
    found = await kept(nc, subjects)
    assert [body["data"]["n"] for body in found] == list(range(50))
    assert found[0] == {
        "event_id": "e0",
        "slug": "my-app",
        "deploy_id": "d1",
        "at": "2026-01-02T00:00:00Z",
        "type": "state",
        "phase": "build",
        "data": {"n": 0},
    }


async def test_an_event_is_kept_once(nc: Client, subjects: Subjects, publisher: EventPublisher) -> None:
    for _ in range(3):
        publisher.publish(event("same"))
    await flushed(publisher)
    assert len(await kept(nc, subjects)) == 1


async def test_the_stream_is_bounded(nc: Client, subjects: Subjects, publisher: EventPublisher) -> None:
    publisher.publish(event("e"))
    await flushed(publisher)
    config = (await nc.jetstream().stream_info(subjects.events_stream)).config
    assert (config.max_age, config.duplicate_window) == (7 * 24 * 3600, 120)
    assert config.max_bytes
    assert config.max_bytes > 0
    assert config.discard == "old"


async def test_log_lines_travel_together(nc: Client, subjects: Subjects, publisher: EventPublisher) -> None:
    for number in range(500):
        publisher.publish(line(number))
    await flushed(publisher)
    found = await kept(nc, subjects)
    assert [text for body in found for text in body["data"]["lines"]] == [f"line {n}" for n in range(500)]
    assert len(found) < 10


async def test_a_huge_event_is_cut_not_fatal(nc: Client, subjects: Subjects, publisher: EventPublisher) -> None:
    publisher.publish(event("big", text="x" * 3_000_000))
    publisher.publish(event("log", EventType.LOG, lines=["y" * 3_000_000]))
    await flushed(publisher)
    first, second = await kept(nc, subjects)
    assert first["truncated"]
    assert len(second["data"]["lines"][0]) == 4000
    assert nc.is_connected


async def test_a_session_is_told_exactly_as_the_platform_expects(
    nc: Client, server: NatsServer, connect: Connect, publisher: EventPublisher
) -> None:
    listener = await connect(server.url)
    inbox = await listener.subscribe("x1.session.s-1.input")
    await settled(listener)
    publisher.tell_session("s.evil", "no", "e0")
    publisher.tell_session("s-1", "Ready: https://my-app.example", "e1")
    message = await inbox.next_msg(timeout=5)
    body = json.loads(message.data)
    assert message.headers == {"Nats-Msg-Id": "e1"}
    assert datetime.fromisoformat(body.pop("timestamp")).utcoffset() is not None
    assert body == {
        "session_id": "s-1",
        "type": "user.message",
        "payload": {
            "text": "Ready: https://my-app.example",
            "kind": "preview",
            "event_id": "e1",
            "source": "preview-provider",
            "driverless": True,
        },
    }


async def test_audit(nc: Client, server: NatsServer, connect: Connect, publisher: EventPublisher) -> None:
    listener = await connect(server.url)
    inbox = await listener.subscribe(AUDIT)
    await settled(listener)
    publisher.audit({"action": "teardown", "slug": "my-app"})
    body = json.loads((await inbox.next_msg(timeout=5)).data)
    assert (body["action"], body["slug"]) == ("teardown", "my-app")
    assert body["event_id"]
    assert body["at"]


async def test_without_jetstream_events_are_published_plainly(
    nc: Client, server: NatsServer, connect: Connect, subjects: Subjects
) -> None:
    listener = await connect(server.url)
    inbox = await listener.subscribe(subjects.all_events)
    await settled(listener)
    events = EventPublisher(nc, subjects, jetstream=False)
    events.start()
    events.publish(event("e1"))
    message = await inbox.next_msg(timeout=5)
    assert message.subject == subjects.events("my-app")
    assert json.loads(message.data)["event_id"] == "e1"
    await events.close()


@pytest.mark.parametrize("lines", [[f"line {n}" for n in range(450)], [f"{n} {'x' * 3000}" for n in range(50)], []])
async def test_an_event_with_many_lines_becomes_some(
    nc: Client, subjects: Subjects, publisher: EventPublisher, lines: list[str]
) -> None:
    """What was held back of a log comes with the next lines: more than one event takes."""
    publisher.publish(event("log", EventType.LOG, lines=lines))
    await flushed(publisher)
    told = await kept(nc, subjects)
    assert [line for body in told for line in body["data"]["lines"]] == lines
    assert len(told) == len({body["event_id"] for body in told}) == (3 if lines else 1)


async def test_while_the_bus_is_away_log_lines_are_dropped_first_and_counted(
    start_server: Callable[..., NatsServer], connect: Connect, subjects: Subjects
) -> None:
    server = start_server()
    lost = asyncio.Event()
    nc = await connect(server.url)
    events = EventPublisher(nc, subjects, jetstream=True, queue_length=10)
    events.start()
    events.publish(event("first"))
    await flushed(events)

    async def note() -> None:
        lost.set()

    nc._disconnected_cb = note
    server.stop()
    async with asyncio.timeout(5):
        await lost.wait()
    for number in range(30):
        events.publish(event(f"log{number}", EventType.LOG, lines=["a", "b"], stream=number))
        if number % 5 == 0:
            events.publish(event(f"state{number}"))
    server.start()
    await flushed(events)
    found = await kept(nc, subjects)
    assert [body["event_id"] for body in found if body["type"] == "state"] == [
        "first",
        *(f"state{n}" for n in range(0, 30, 5)),
    ]
    arrived = sum(len(body["data"]["lines"]) for body in found if body["type"] == "log")
    [warning] = [body for body in found if body["type"] == "warning"]
    assert warning["data"]["dropped_log_lines"] == 60 - arrived
    await events.close()


async def test_closing_without_a_bus_ends_in_time(
    start_server: Callable[..., NatsServer], connect: Connect, subjects: Subjects
) -> None:
    server = start_server()
    events = EventPublisher(await connect(server.url), subjects, jetstream=True)
    events.start()
    server.stop()
    events.publish(event("e"))
    async with asyncio.timeout(3):
        await events.close(timeout=0.3)
