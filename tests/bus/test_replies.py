"""The reply promise: repeated until somebody takes it, over restarts, until the deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from nats.aio.client import Client

from provider.bus.connection import settled
from provider.bus.replies import deliver, encode

from .conftest import NatsServer

Connect = Callable[[str], Awaitable[Client]]


def within(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_a_waiting_requester_gets_it(nc: Client, connect: Connect, server: NatsServer, prefix: str) -> None:
    requester = await connect(server.url)
    requests = await nc.subscribe(prefix)
    await settled(nc)
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(requester.request(prefix, b"", timeout=5))
        reply = (await requests.next_msg(timeout=5)).reply
        assert await deliver(nc, reply, b"answer", within(5))
    assert asked.result().data == b"answer"


async def test_an_absent_inbox_is_tried_again_until_it_is_there(
    nc: Client, connect: Connect, server: NatsServer, prefix: str
) -> None:
    attempted = asyncio.Event()
    request = nc.request

    class Telling(Client):
        """The client, and a sign when the first attempt found nobody."""

        is_connected = True
        stats = nc.stats

        async def request(self, *args: object, **named: object) -> object:  # type: ignore[override]
            try:
                return await request(*args, **named)  # type: ignore[arg-type]
            finally:
                attempted.set()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        delivery = tasks.create_task(deliver(Telling(), prefix, b"answer", within(8)))
        await attempted.wait()
        requester = await connect(server.url)
        inbox = await requester.subscribe(prefix)
        assert (await inbox.next_msg(timeout=5)).data == b"answer"
    assert delivery.result()


async def test_nobody_until_the_deadline_is_not_taken(nc: Client, prefix: str) -> None:
    assert not await deliver(nc, prefix, b"answer", within(0.3))


async def test_an_impossible_subject_is_not_repeated(nc: Client) -> None:
    async with asyncio.timeout(2):
        assert not await deliver(nc, "not a subject", b"answer", within(60))


async def test_a_restart_of_the_bus_is_survived(start_server: Callable[..., NatsServer], connect: Connect) -> None:
    server = start_server(jetstream=False)
    responder, requester = await connect(server.url), await connect(server.url)
    inbox = await requester.subscribe("inbox")
    server.stop()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        delivery = tasks.create_task(deliver(responder, "inbox", b"answer", within(15)))
        server.start()
        assert (await inbox.next_msg(timeout=15)).data == b"answer"
    assert delivery.result()


class TestEncode:
    BODY: ClassVar = {"ok": False, "code": "x", "message": "m", "still_serving": None}

    def test_small_answers_are_whole(self) -> None:
        assert json.loads(encode({**self.BODY, "log_tail": ["ü"]}, 1000)) == {**self.BODY, "log_tail": ["ü"]}

    @pytest.mark.parametrize(
        "bulk",
        [
            {"log_tail": ["x" * 5000]},
            {"evidence": ["x" * 5000], "log_tail": ["y"]},
            {"message": "x" * 50_000},
            {"spec": {"a": "x" * 50_000}},
        ],
    )
    def test_large_ones_keep_what_they_say(self, bulk: dict[str, object]) -> None:
        encoded = encode({**self.BODY, **bulk}, 4000)
        assert len(encoded) <= 4000
        assert json.loads(encoded)["code"] == "x"
        assert json.loads(encoded)["message"]
