"""The work queue on a real server: taken once, told once, kept while the platform fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from provider.background import ended
from provider.bus import queue
from provider.bus.endpoints import Incoming
from provider.bus.queue import WorkQueue
from provider.bus.subjects import Subjects
from provider.errors import Code, Permanent, Temporary
from tests.e2e.helpers import eventually

Json = dict[str, Any]


class Handler:
    """Keeps what it is asked; refuses or fails where the body says so."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.refused: list[tuple[Json, Json]] = []
        self.failures = 0

    async def __call__(self, incoming: Incoming) -> Json | None:
        self.seen.append(incoming)
        if incoming.body.get("do") == "refuse":
            raise Permanent(Code.POLICY_DENIED, "no")
        if self.failures:
            self.failures -= 1
            raise Temporary(Code.PLATFORM_UNREACHABLE, "not now")
        return None

    def told(self, incoming: Incoming, answer: Mapping[str, Any]) -> None:
        self.refused.append((dict(incoming.body), dict(answer)))


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
async def work(nc: Client, prefix: str, handler: Handler) -> AsyncIterator[Subjects]:
    subjects = Subjects(prefix)
    reader = WorkQueue(nc, subjects, handler, handler.told)
    task = asyncio.create_task(reader.run())

    async def open_() -> bool:
        try:
            await nc.jetstream().consumer_info(subjects.queue_stream, queue.CONSUMER)
        except Exception:
            return False
        return True

    await eventually(open_)
    yield subjects
    await ended([task])
    await reader.close()


async def put(nc: Client, subjects: Subjects, body: object) -> None:
    await nc.jetstream().publish(subjects.queue, json.dumps(body).encode())


async def left(nc: Client, subjects: Subjects) -> int:
    return int((await nc.jetstream().stream_info(subjects.queue_stream)).state.messages)


async def test_a_message_is_handled_once_and_gone(nc: Client, work: Subjects, handler: Handler) -> None:
    await put(nc, work, {"deploy_id": "mine", "reply_to": "somebody"})

    async def empty() -> bool:
        return bool(handler.seen) and await left(nc, work) == 0

    await eventually(empty)
    (incoming,) = handler.seen
    assert (incoming.body["deploy_id"], incoming.reply) == ("mine", "somebody")


async def test_what_the_platform_cannot_do_now_is_done_later_by_the_same_id(
    nc: Client, work: Subjects, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "AGAIN_SECONDS", 0.1)
    handler.failures = 2
    await put(nc, work, {"branch": "main"})

    async def empty() -> bool:
        return len(handler.seen) == 3 and await left(nc, work) == 0

    await eventually(empty)
    ids = {incoming.body["deploy_id"] for incoming in handler.seen}
    assert len(ids) == 1
    assert not handler.refused


@pytest.mark.parametrize("body", [{"do": "refuse", "reply_to": "told.here"}, ["no object"]])
async def test_a_refusal_is_told_and_gone(nc: Client, work: Subjects, handler: Handler, body: object) -> None:
    answers: list[Json] = []

    async def heard(message: Msg) -> None:
        answers.append(json.loads(message.data))

    await nc.subscribe("told.here", cb=heard)
    await put(nc, work, body)

    async def empty() -> bool:
        return bool(handler.refused) and await left(nc, work) == 0

    await eventually(empty)
    (_, answer) = handler.refused[0]
    assert answer["code"] == ("policy_denied" if isinstance(body, dict) else "bad_request_decode")
    if isinstance(body, dict):

        async def told() -> bool:
            return bool(answers)

        await eventually(told)
        assert answers[0]["code"] == "policy_denied"


async def test_an_answer_never_goes_to_a_subject_of_the_server(nc: Client, work: Subjects, handler: Handler) -> None:
    """Whoever may queue a request must not make the provider call the server's own API for it."""
    stream = work.queue_stream
    await put(nc, work, {"do": "refuse", "reply_to": f"$JS.API.STREAM.DELETE.{stream}"})

    async def refused() -> bool:
        return bool(handler.refused) and await left(nc, work) == 0

    await eventually(refused)
    await put(nc, work, {"deploy_id": "after"})

    async def taken() -> bool:
        return any(one.body.get("deploy_id") == "after" for one in handler.seen)

    await eventually(taken)
