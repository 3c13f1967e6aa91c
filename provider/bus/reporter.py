"""Answers, session messages and audit entries leave by the bus: what the pipeline calls its `Reporter`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nats.aio.client import Client

from provider.bus.events import EventPublisher
from provider.bus.replies import deliver, encode
from provider.models import TraceContext
from provider.store import payload_limit


class Reporter:
    """Answers and session messages leave by the bus."""

    def __init__(self, nc: Client, events: EventPublisher) -> None:
        self._nc = nc
        self._events = events

    async def deliver(
        self, reply: str, body: Mapping[str, Any], deadline: datetime, trace: TraceContext | None = None
    ) -> bool:
        """See `pipeline.context.Reporter`."""
        headers = trace.headers() if trace else None
        return await deliver(self._nc, reply, encode(body, payload_limit(self._nc)), deadline, headers)

    def tell_session(self, session_id: str, text: str, event_id: str, trace: TraceContext | None = None) -> None:
        """See `pipeline.context.Reporter`."""
        self._events.tell_session(session_id, text, event_id, trace)

    def audit(self, entry: Mapping[str, Any], trace: TraceContext | None = None) -> None:
        """See `pipeline.context.Reporter`."""
        self._events.audit(entry, trace)
