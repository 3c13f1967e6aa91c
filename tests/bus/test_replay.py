"""Events that were kept, read again by preview and time: all of them, in order, and an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client

from provider.answers import BusUnreachable
from provider.background import ended
from provider.bus.events import EventPublisher
from provider.bus.subjects import Subjects
from provider.client import PreviewClient
from provider.models import Event, EventType, now

from .conftest import NatsServer

Connect = Callable[[str], Awaitable[Client]]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def event(number: int, slug: str = "shop", deploy_id: str = "d") -> Event:
    return Event(
        event_id=f"{slug}-{number}", slug=slug, deploy_id=deploy_id, at=now(), type=EventType.STATE, data={"n": number}
    )


@pytest.fixture
async def told(nc: Client, prefix: str) -> AsyncIterator[EventPublisher]:
    """600 events of one preview, each followed by one of another."""
    events = EventPublisher(nc, Subjects(prefix), jetstream=True)
    events.start()
    for number in range(600):
        events.publish(event(number))
        events.publish(event(number, "other", "d-other"))
    await events.flush()
    yield events
    await events.close()


async def test_a_previews_events_are_read_whole_and_end(nc: Client, prefix: str, told: EventPublisher) -> None:
    client = PreviewClient(nc, subject_prefix=prefix)
    found = [one.data["n"] async for one in client.past_events("shop", since=LONG_AGO)]
    assert found == list(range(600)), "more than one batch, and nothing of another preview"
    found = [one.data["n"] async for one in client.past_events(deploy_id="d-other", since=LONG_AGO)]
    assert found == list(range(600))
    assert not [one async for one in client.past_events("shop", since=now() + timedelta(seconds=60))]
    assert not [one async for one in client.past_events("nobody", since=LONG_AGO)]


async def test_it_begins_at_a_time(nc: Client, prefix: str, told: EventPublisher) -> None:
    await asyncio.sleep(0.01)
    middle = now()
    told.publish(event(1000))
    await told.flush()
    client = PreviewClient(nc, subject_prefix=prefix)
    assert [one.data["n"] async for one in client.past_events("shop", since=middle)] == [1000]


async def test_where_nothing_was_ever_told_there_is_nothing(nc: Client, prefix: str) -> None:
    client = PreviewClient(nc, subject_prefix=prefix)
    assert not [one async for one in client.past_events(since=LONG_AGO)]


async def test_a_bus_that_keeps_nothing_says_so(start_server: Callable[..., NatsServer], connect: Connect) -> None:
    client = PreviewClient(await connect(start_server(jetstream=False).url), subject_prefix="p")
    with pytest.raises(BusUnreachable, match="keeps no events"):
        async for _ in client.past_events("shop", since=LONG_AGO):
            pass


async def test_whoever_follows_misses_nothing_over_a_restart_of_the_bus(
    start_server: Callable[..., NatsServer], connect: Connect
) -> None:
    server = start_server()
    nc = await connect(server.url)
    events = EventPublisher(nc, Subjects("p"), jetstream=True)
    events.start()
    heard: list[int] = []

    async def follow() -> None:
        async for one in PreviewClient(nc, subject_prefix="p").events("shop", since=LONG_AGO):
            heard.append(one.data["n"])  # noqa: PERF401 - it has no end

    async def heard_all(count: int) -> None:
        async with asyncio.timeout(20):
            while len(heard) < count:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.01)

    task = asyncio.create_task(follow())
    events.publish(event(0))
    await heard_all(1)
    await asyncio.to_thread(server.restart)
    for number in range(1, 5):
        events.publish(event(number))
    await heard_all(5)
    await ended([task])
    await events.close()
    assert heard == list(range(5))
