"""Events, session messages and audit entries: sent in the background, never in anybody's way.

A deploy must not wait for the bus to tell what it does. So everything goes into one bounded queue;
when the bus is away for long, log lines go first, and it is said how many.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, Header, RetentionPolicy, StorageType, StreamConfig

from provider.bus.connection import settled
from provider.bus.subjects import AUDIT, Subjects, session_input
from provider.models import AuditEntry, Event, EventType, TraceContext, now
from provider.store import payload_limit

log = structlog.get_logger(__name__)

QUEUE_LENGTH = 5000
_LINES_PER_EVENT = 200
_BYTES_PER_EVENT = 64 * 1024
_LINE_CHARS = 4000
_STREAM_AGE = 7 * 24 * 3600.0
_STREAM_BYTES = 256 << 20
_DUPLICATES = 120.0
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_AT_ONCE = 32
"""Messages of which each is sent without waiting for the one before; the connection keeps them in order."""


@dataclass(frozen=True, slots=True)
class _Message:
    """Something to send: an event, or a finished payload for another subject; and the trace that it belongs to."""

    subject: str
    message_id: str
    event: Event | None = None
    body: Mapping[str, Any] | None = None
    trace: TraceContext | None = None

    @property
    def is_log(self) -> bool:
        return self.event is not None and self.event.type is EventType.LOG


class EventPublisher:
    """Publishes in the background, in order.

    Args:
        jetstream: whether events are kept in a stream; else they are published plainly.
    """

    def __init__(self, nc: Client, subjects: Subjects, *, jetstream: bool, queue_length: int = QUEUE_LENGTH) -> None:
        self._nc = nc
        self._subjects = subjects
        self._jetstream = jetstream
        self._queue: deque[_Message] = deque()
        self._going: list[_Message] = []
        self._queue_length = queue_length
        self._dropped: Counter[tuple[str | None, str]] = Counter()
        self._stream_ready = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="events")

    def publish(self, event: Event, trace: TraceContext | None = None) -> None:
        """Queue an event; a log event carries `data.lines`, a list."""
        for part in _parts(event) if event.type is EventType.LOG else (event,):
            message = _Message(self._subjects.events(event.slug), part.event_id, event=part, trace=trace)
            if not (message.is_log and self._merged(message)):
                self._enqueue(message)

    def tell_session(self, session_id: str, text: str, event_id: str, trace: TraceContext | None = None) -> None:
        """Queue a message to a session (contract.md, "Telling a session")."""
        if not _TOKEN.fullmatch(session_id):
            log.error("events.bad_session_id")  # a dot or a wildcard would tell another session
            return
        payload = {
            "text": text,
            "kind": "preview",
            "event_id": event_id,
            "source": "preview-provider",
            "driverless": True,
        }
        timestamp = now().isoformat().replace("+00:00", "Z")
        body = {"session_id": session_id, "timestamp": timestamp, "type": "user.message", "payload": payload}
        self._enqueue(_Message(session_input(session_id), event_id, body=body, trace=trace))

    def audit(self, entry: Mapping[str, Any], trace: TraceContext | None = None) -> None:
        """Queue an audit entry, a part of `AuditEntry`: gets `event_id` and `at` unless it has them."""
        made = AuditEntry.model_validate({"event_id": uuid.uuid4().hex, "at": now(), **entry})
        body = made.model_dump(mode="json", exclude_none=True)
        self._enqueue(_Message(AUDIT, made.event_id, body=body, trace=trace))

    async def flush(self) -> None:
        """Wait until everything queued is sent; bound it with `asyncio.timeout`."""
        await self._idle.wait()

    async def close(self, timeout: float = 5.0) -> None:
        """Send what is queued within `timeout` seconds, then stop."""
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except TimeoutError:
            log.warning("events.not_sent", messages=self.waiting)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """How many messages are not sent yet."""
        return len(self._queue) + len(self._going)

    # ------------------------------------------------------------------------- queue

    def _enqueue(self, message: _Message) -> None:
        while len(self._queue) >= self._queue_length:
            self._make_room()
        self._queue.append(message)
        self._idle.clear()
        self._wake.set()

    def _make_room(self) -> None:
        """Drop the oldest log lines, or, where there are none, the oldest message."""
        index = next((i for i, message in enumerate(self._queue) if message.is_log), 0)
        dropped = self._queue[index]
        del self._queue[index]
        if dropped.is_log and dropped.event is not None:
            if not self._dropped:
                log.warning("events.dropping_log_lines", queued=self._queue_length)
            self._dropped[(dropped.event.slug, dropped.event.deploy_id)] += len(_lines(dropped.event))
        else:
            log.error("events.dropped", subject=dropped.subject, event_id=dropped.message_id)

    def _merged(self, message: _Message) -> bool:
        """Add the lines to the last queued event, where that is one of the same log and still small."""
        last = self._queue[-1] if self._queue else None
        if last is None or last.event is None or message.event is None or not last.is_log:
            return False
        old, new = last.event, message.event
        same = (old.deploy_id, old.phase, old.slug) == (new.deploy_id, new.phase, new.slug)
        rest = {name: value for name, value in old.data.items() if name != "lines"}
        same = same and rest == {name: value for name, value in new.data.items() if name != "lines"}
        lines = _lines(old) + _lines(new)
        if not same or len(lines) > _LINES_PER_EVENT or sum(map(len, lines)) > _BYTES_PER_EVENT:
            return False
        self._queue[-1] = replace(last, event=old.model_copy(update={"data": rest | {"lines": lines}}))
        return True

    # ---------------------------------------------------------------------- sending

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._send_some()
                self._report_dropped()
            self._idle.set()

    async def _send_some(self) -> None:
        """Send the head of the queue, however long that takes."""
        self._going = [self._queue.popleft() for _ in range(min(_AT_ONCE, len(self._queue)))]
        pause = _FIRST_PAUSE
        while (error := await self._try()) is not None:
            say = log.warning if pause == _FIRST_PAUSE else log.debug
            say("events.waiting", error=type(error).__name__, detail=str(error), queued=self.waiting)
            self._stream_ready = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _try(self) -> Exception | None:
        """Send what is to go; returns why it has to be tried again, with what then still is to go."""
        kept = self._jetstream and self._going[-1].event is not None
        unconfirmed = any(message.event is None for message in self._going) and not kept
        try:
            if not self._nc.is_connected:
                raise nats.errors.ConnectionReconnectingError
            if self._jetstream:
                await self._ensure_stream()
            errors = await asyncio.gather(*map(self._send, self._going))
            if unconfirmed:
                await settled(self._nc)
        except (nats.errors.Error, TimeoutError) as error:
            return error
        # That the last one is kept tells that those before it arrived, too, which nobody acknowledges.
        lost = kept and errors[-1] is not None
        sent = zip(self._going, errors, strict=True)
        self._going = [message for message, error in sent if error is not None or (lost and message.event is None)]
        return next((error for error in errors if error is not None), None)

    async def _send(self, message: _Message) -> Exception | None:
        """Send one message; returns why it has to be sent again. What can never be sent is done with."""
        headers = {Header.MSG_ID.value: message.message_id, **(message.trace.headers() if message.trace else {})}
        limit = payload_limit(self._nc)
        try:
            if message.event is None:
                await self._nc.publish(message.subject, _encode(dict(message.body or {}), limit), headers=headers)
                return None
            publish = self._nc.jetstream().publish if self._jetstream else self._nc.publish
            await publish(message.subject, _event_payload(message.event, limit), headers=headers)
        except nats.js.errors.BadRequestError as error:
            log.error("events.refused", subject=message.subject, error=str(error))
        except (nats.errors.BadSubjectError, ValueError, TypeError) as error:
            log.error("events.unsendable", subject=message.subject, error=type(error).__name__)
        except (nats.errors.Error, TimeoutError) as error:
            return error
        return None

    async def _ensure_stream(self) -> None:
        if self._stream_ready:
            return
        config = StreamConfig(
            name=self._subjects.events_stream,
            description="Progress of previews.",
            subjects=[self._subjects.all_events],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            max_age=_STREAM_AGE,
            max_bytes=_STREAM_BYTES,
            duplicate_window=_DUPLICATES,
        )
        try:
            await self._nc.jetstream().add_stream(config)
        except nats.js.errors.BadRequestError as error:
            # There is one with other limits: those are the operator's choice.
            log.info("events.stream_kept", stream=config.name, detail=error.description)
        self._stream_ready = True

    def _report_dropped(self) -> None:
        """Once messages go out again, say in each deploy's events what is missing."""
        for (slug, deploy_id), lines in self._dropped.items():
            log.warning("events.dropped_log_lines", deploy_id=deploy_id, lines=lines)
            data = {"message": f"{lines} log lines were dropped while the bus was away.", "dropped_log_lines": lines}
            event = Event(
                event_id=uuid.uuid4().hex,
                slug=slug,
                deploy_id=deploy_id,
                at=now(),
                type=EventType.WARNING,
                data=data,
            )
            self._queue.append(_Message(self._subjects.events(slug), event.event_id, event=event))
        self._dropped.clear()


def _lines(event: Event) -> list[str]:
    return [str(line)[:_LINE_CHARS] for line in event.data.get("lines", ())]


def _parts(event: Event) -> Iterator[Event]:
    """A log event as one or more, none of which is large: no line of it is left out."""
    part: list[str] = []
    number = size = 0
    for line in _lines(event):
        size += len(line)
        if len(part) == _LINES_PER_EVENT or size > _BYTES_PER_EVENT:
            yield _part(event, part, number)
            part, number, size = [], number + 1, len(line)
        part.append(line)
    yield _part(event, part, number)


def _part(event: Event, lines: list[str], number: int) -> Event:
    event_id = f"{event.event_id}-{number}" if number else event.event_id
    return event.model_copy(update={"event_id": event_id, "data": {**event.data, "lines": lines}})


def _event_payload(event: Event, limit: int) -> bytes:
    left_out = {"phase"} if event.phase is None else None
    payload = event.model_dump_json(exclude=left_out).encode()
    return payload if len(payload) <= limit else _shortened(event.model_dump(mode="json", exclude=left_out))


def _encode(body: dict[str, Any], limit: int) -> bytes:
    payload = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return payload if len(payload) <= limit else _shortened(body)


def _shortened(body: dict[str, Any]) -> bytes:
    """What of a message is small, where all of it is more than the server takes."""
    short = {name: value for name, value in body.items() if len(json.dumps(value)) < 1000}
    return json.dumps(short | {"truncated": True}).encode()
