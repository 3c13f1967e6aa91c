"""A stream to an inbox: one message at a time, and its reader's going is noticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from nats.aio.client import Client

from provider.bus.streams import InboxStream
from tests.bus.conftest import NatsServer


async def test_nothing_more_is_sent_until_the_reader_took_it(
    server: NatsServer, nc: Client, connect: Callable[..., object]
) -> None:
    reader: Client = await connect(server.url)  # type: ignore[misc]
    inbox = reader.new_inbox()
    subscription = await reader.subscribe(inbox)
    await reader.flush()
    stream = InboxStream(nc, inbox, taken_within=10.0)
    sending = asyncio.create_task(stream.send({"type": "a"}))
    first = await subscription.next_msg(timeout=5.0)
    assert json.loads(first.data) == {"type": "a", "seq": 0}
    assert not sending.done()
    await first.respond(b"")
    assert await sending
    sending = asyncio.create_task(stream.send({"type": "b"}))
    second = await subscription.next_msg(timeout=5.0)
    assert json.loads(second.data)["seq"] == 1
    await second.respond(b"")
    assert await sending


async def test_a_reader_that_is_gone_or_takes_nothing_ends_it(
    server: NatsServer, nc: Client, connect: Callable[..., object]
) -> None:
    assert not await InboxStream(nc, "_INBOX.nobody", taken_within=10.0).send({}), "told by the server, at once"
    reader: Client = await connect(server.url)  # type: ignore[misc]
    inbox = reader.new_inbox()
    await reader.subscribe(inbox)
    await reader.flush()
    assert not await InboxStream(nc, inbox, taken_within=0.2).send({})
