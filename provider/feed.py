"""Events as the client reads them: those to come, and those that the bus has kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, DeliverPolicy

from provider.answers import (
    BadAnswer,
    BusUnreachable,
    Event,
    FailureForm,
    Look,
    NoProvider,
    PreviewFailed,
    TimedOut,
)
from provider.bus.subjects import Subjects
from provider.exchange import unsubscribe

SILENCE_SECONDS = 20.0
"""The provider sends a heartbeat every five seconds."""


class Feed:
    """The events of one installation, read over one connection."""

    def __init__(self, nats: Nats, subjects: Subjects) -> None:
        self._nats = nats
        self._subjects = subjects

    async def follow(self, slug: str | None, deploy_id: str | None, since: datetime | None) -> AsyncIterator[Event]:
        """See `PreviewClient.events`."""
        subject = self._subjects.all_events if deploy_id or not slug else self._subjects.events(slug)
        try:
            subscription = await self._subscribe(subject, since)
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"cannot read events: {error!r}") from error
        try:
            async for message in subscription.messages:
                event = _event(message.data)
                if event and (deploy_id is None or event.deploy_id == deploy_id):
                    yield event
            raise BusUnreachable("the connection to NATS is closed")
        finally:
            await unsubscribe(subscription)

    async def look(self, subject: str, body: dict[str, Any]) -> AsyncIterator[Look]:
        """See `PreviewClient.follow`. A message is answered when the next one is asked for, and not before."""
        payload = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
        try:
            inbox = self._nats.new_inbox()
            subscription = await self._nats.subscribe(inbox)
            await self._nats.publish(subject, payload, reply=inbox)
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"cannot ask {subject}: {error!r}") from error
        try:
            while True:
                message = await subscription.next_msg(timeout=SILENCE_SECONDS)
                look = _look(message, subject)
                if look.type == "end":
                    return
                yield look
                await self._nats.publish(message.reply)
        except NatsTimeout:
            raise TimedOut(f"{subject} has said nothing for {SILENCE_SECONDS:g} s") from None
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"the connection to NATS failed: {error!r}") from error
        finally:
            await unsubscribe(subscription)

    @contextlib.asynccontextmanager
    async def telling(self, on_event: Callable[[Event], None] | None, deploy_id: str) -> AsyncIterator[None]:
        """Have `on_event` called with the deploy's events; subscribed before the deploy is asked for."""
        if on_event is None:
            yield
            return

        async def arrived(message: Msg) -> None:
            event = _event(message.data)
            if event and event.deploy_id == deploy_id:
                on_event(event)

        subscription = await self._nats.subscribe(self._subjects.all_events, cb=arrived)
        try:
            yield
        finally:
            await unsubscribe(subscription)

    async def _subscribe(self, subject: str, since: datetime | None) -> Subscription:
        if since is None:
            return await self._nats.subscribe(subject)
        start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since.astimezone(UTC))
        stream = self._subjects.events_stream
        return await self._nats.jetstream().subscribe(subject, stream=stream, ordered_consumer=True, config=start)


def _event(data: bytes) -> Event | None:
    """The event that a message is; None for what is not one, since anybody may publish there."""
    try:
        return Event.read(json.loads(data))
    except (ValueError, RecursionError, BadAnswer):
        return None


def _look(message: Msg, subject: str) -> Look:
    """One message of a stream. Raises NoProvider, PreviewFailed, BadAnswer."""
    if (message.headers or {}).get("Status") == "503":
        raise NoProvider(f"nobody answers {subject}")
    try:
        reply = json.loads(message.data)
    except ValueError:
        raise BadAnswer(f"{subject} answered what is no JSON") from None
    if not reply.get("ok", True):
        raise PreviewFailed(FailureForm.read(reply))
    return Look.read(reply)
