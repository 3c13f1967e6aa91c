"""The work queue: a provision that waits on the bus until a provider is there to take it.

A message is acknowledged once its deploy has a record (or its refusal was told), so a provider that dies in between
leaves it to the next one; what is delivered twice has the same deploy id, and so is one deploy.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from provider.bus.endpoints import Handler, Incoming, Served, answered
from provider.bus.replies import deliver, encode
from provider.bus.requests import MAX_BYTES
from provider.bus.subjects import QUEUE, Subjects
from provider.models import REPLY_SUBJECT, TraceContext, now
from provider.store import payload_limit

log = structlog.get_logger(__name__)

CONSUMER = "providers"
MAX_MESSAGES = 10_000
MAX_AGE = 24 * 3600.0
ACK_SECONDS = 30.0
FETCH_SECONDS = 5.0
AT_ONCE = 16
AGAIN_SECONDS = 5.0
REFUSAL_KEPT = timedelta(minutes=1)
_IDS = uuid.UUID("5b7f0f0e-6a52-4c0e-9d0c-0f6f1b1f2a53")

Refused = Callable[[Incoming, Mapping[str, Any]], None]
"""Told of a message that becomes no deploy: the request as far as it is known, and the answer."""


class WorkQueue:
    """Takes messages from the queue of an installation.

    Args:
        handler: of a provision; None when the answer follows by the reply promise.
        refused: told of each refusal, since nobody may listen at `reply_to`.
        served: see `endpoints.Served`.
    """

    def __init__(
        self, nc: Client, subjects: Subjects, handler: Handler, refused: Refused, served: Served | None = None
    ) -> None:
        self._nc = nc
        self._subjects = subjects
        self._handler = handler
        self._refused = refused
        self._served = served or (lambda *_: None)
        self._telling: set[asyncio.Task[bool]] = set()

    async def run(self) -> None:
        """Take messages until it is cancelled, or until the bus fails: then it is to be run again."""
        try:
            await self._run(self._nc.jetstream())
        except nats.errors.Error as error:
            log.warning("queue.again", error=type(error).__name__)

    async def _run(self, js: JetStreamContext) -> None:
        await self._open(js)
        consumer = await js.pull_subscribe_bind(durable=CONSUMER, stream=self._subjects.queue_stream)
        try:
            while True:
                with suppress(TimeoutError):  # the client's own, or asyncio's when the bus went away meanwhile
                    messages = await consumer.fetch(AT_ONCE, timeout=FETCH_SECONDS)
                    await asyncio.gather(*(self._take(message) for message in messages))
        finally:
            with suppress(nats.errors.Error):
                await consumer.unsubscribe()

    async def close(self) -> None:
        """Give up telling refusals that nobody took."""
        for task in list(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _open(self, js: JetStreamContext) -> None:
        """Make stream and consumer where they are missing; what is there is the operator's."""
        try:
            await js.stream_info(self._subjects.queue_stream)
        except nats.js.errors.NotFoundError:
            await js.add_stream(
                StreamConfig(
                    name=self._subjects.queue_stream,
                    subjects=[self._subjects.queue],
                    retention=RetentionPolicy.WORK_QUEUE,
                    discard=DiscardPolicy.NEW,  # a full queue refuses, it does not forget
                    max_msgs=MAX_MESSAGES,
                    max_msg_size=MAX_BYTES,
                    max_age=MAX_AGE,
                    storage=StorageType.FILE,
                )
            )
        config = ConsumerConfig(durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_SECONDS)
        await js.add_consumer(self._subjects.queue_stream, config)

    async def _take(self, message: Msg) -> None:
        """Make a deploy of a message, or refuse it, or leave it for later when it is the platform that fails."""
        asked = Incoming({}, "", now(), TraceContext.read(message.headers))

        async def handle(incoming: Incoming) -> dict[str, Any] | None:
            incoming.body.setdefault("deploy_id", _deploy_id(message))
            reply = incoming.body.get("reply_to")
            return await self._handler(replace(incoming, reply=reply if isinstance(reply, str) else ""))

        try:
            answer = await answered(QUEUE, handle, message.data, asked)
            if answer is not None and not answer["ok"] and answer.get("retryable"):
                log.info("queue.later", code=answer["code"], reason=answer.get("reason"))
                await message.nak(delay=AGAIN_SECONDS)
                return
            self._served(QUEUE, asked, answer)
            if answer is not None:
                self._tell(asked, answer)
            await message.ack()
        except nats.errors.Error as error:
            log.warning("queue.not_acknowledged", error=type(error).__name__)  # it is delivered again

    def _tell(self, asked: Incoming, answer: dict[str, Any]) -> None:
        body = asked.body
        answer.setdefault("deploy_id", body.get("deploy_id"))
        if not answer["ok"]:
            self._refused(asked, answer)
        reply = body.get("reply_to")
        if isinstance(reply, str) and re.fullmatch(REPLY_SUBJECT, reply):
            payload = encode(answer, payload_limit(self._nc))
            headers = asked.trace.headers() if asked.trace else None
            task = asyncio.create_task(deliver(self._nc, reply, payload, now() + REFUSAL_KEPT, headers))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)


def _deploy_id(message: Msg) -> str:
    """The same for each delivery of a message that brings no id of its own."""
    metadata = message.metadata
    return uuid.uuid5(_IDS, f"{metadata.stream} {metadata.sequence.stream} {metadata.timestamp}").hex
