"""Events as the client reads them: those to come, and those that the bus has kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NotFoundError, ServiceUnavailableError

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
from provider.store.listing import Pull

SILENCE_SECONDS = 20.0
"""The provider sends a heartbeat every five seconds."""
PULL_SECONDS = 5.0
AGAIN_SECONDS = 0.5


class Feed:
    """The events of one installation, read over one connection."""

    def __init__(self, nats: Nats, subjects: Subjects) -> None:
        self._nats = nats
        self._subjects = subjects

    async def follow(self, slug: str | None, deploy_id: str | None, since: datetime | None) -> AsyncIterator[Event]:
        """See `PreviewClient.events`."""
        subject = self._subject(slug, deploy_id)
        events = self._coming(subject) if since is None else self._replayed(subject, since, follow=True)
        async with aclosing(events) as closing:
            async for event in closing:
                if deploy_id is None or event.deploy_id == deploy_id:
                    yield event

    async def kept(self, slug: str | None, deploy_id: str | None, since: datetime) -> AsyncIterator[Event]:
        """See `PreviewClient.past_events`."""
        async with aclosing(self._replayed(self._subject(slug, deploy_id), since, follow=False)) as closing:
            async for event in closing:
                if deploy_id is None or event.deploy_id == deploy_id:
                    yield event

    def _subject(self, slug: str | None, deploy_id: str | None) -> str:
        return self._subjects.all_events if deploy_id or not slug else self._subjects.events(slug)

    async def _coming(self, subject: str) -> AsyncGenerator[Event, None]:
        try:
            subscription = await self._nats.subscribe(subject)
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"cannot read events: {error!r}") from error
        try:
            async for message in subscription.messages:
                if event := _event(message.data):
                    yield event
            raise BusUnreachable("the connection to NATS is closed")
        finally:
            await unsubscribe(subscription)

    async def _replayed(self, subject: str, since: datetime, *, follow: bool) -> AsyncGenerator[Event, None]:
        """What the bus kept since then; with `follow` also what comes, over restarts of the bus."""
        last = 0
        while True:
            try:
                async with aclosing(self._turn(subject, since, last, follow)) as closing:
                    async for message in closing:
                        last = message.metadata.sequence.stream
                        if event := _event(message.data):
                            yield event
                if not follow:
                    return
                continue
            except NotFoundError:  # nobody has published an event yet
                if not follow:
                    return
            except (NatsError, OSError) as error:
                if not last and isinstance(error, NoRespondersError | ServiceUnavailableError):
                    raise BusUnreachable("this bus keeps no events: it has no JetStream") from None
                if not follow or self._nats.is_closed:
                    raise BusUnreachable(f"cannot read events: {error!r}") from error
            await asyncio.sleep(AGAIN_SECONDS)

    async def _turn(self, subject: str, since: datetime, last: int, follow: bool) -> AsyncGenerator[Msg, None]:
        """The messages behind `last`; then what comes until there is a pause, as a consumer dies with its server."""
        pull = await Pull.open(
            self._nats, self._nats.jetstream(), self._subjects.events_stream, subject, after=last, since=since
        )
        try:
            async for message in pull.waiting():
                yield message
            while follow and (coming := await pull.next(PULL_SECONDS)) is not None:
                yield coming
        finally:
            await pull.close()

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
