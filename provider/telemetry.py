"""What a provider tells of its work: events and audit entries on the bus; metrics, spans, lines of the log."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from provider.bus import audit
from provider.bus.endpoints import Incoming
from provider.bus.events import EventPublisher
from provider.metrics import Metrics
from provider.models import DeployRecord, Event, EventType, now
from provider.pipeline.logbook import Logbook
from provider.tracing import Tracer

log = structlog.get_logger(__name__)

OF_A_REFUSAL = ("ok", "code", "reason", "message", "hint", "retryable", "whose")


@contextmanager
def _harmless() -> Iterator[None]:
    """A bug in telling is told in the log, and ends no deploy: whoever asked waits for its answer."""
    try:
        yield
    except Exception:
        log.exception("telemetry.failed")


class Telemetry:
    """Takes what happens, and never fails or blocks.

    Args:
        events: publishes to the bus.
        metrics: counts.
        tracer: makes spans.
        logbook: masks what others said.
    """

    def __init__(self, *, events: EventPublisher, metrics: Metrics, tracer: Tracer, logbook: Logbook) -> None:
        self._events = events
        self._metrics = metrics
        self._tracer = tracer
        self._logbook = logbook

    @_harmless()
    def emit(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        """Something happened to a deploy."""
        shown = data if kind is EventType.LOG else self._logbook.event_data(record, data)
        repeated = record.answer_id != record.deploy_id  # a request came again, and shares what is counted already
        if kind is not EventType.LOG and not repeated:
            self._watched(record, kind, data, shown)
        self._events.publish(
            Event(
                event_id=uuid.uuid4().hex,
                slug=record.slug,
                deploy_id=record.answer_id,
                at=now(),
                type=kind,
                phase=record.phase,
                data=shown,
            ),
            record.trace,
        )

    def _watched(
        self, record: DeployRecord, kind: EventType, data: Mapping[str, Any], shown: Mapping[str, Any]
    ) -> None:
        """Tell those who run the provider; of others' words only what is `shown`."""
        self._metrics.event(record, kind, data)
        self._tracer.event(record, kind, {**data, "message": shown.get("message")})
        if kind is EventType.STATE and "ok" in data:
            self._events.audit(audit.of_outcome(record, data), record.trace)
            seconds = round((now() - record.created_at).total_seconds(), 3)
            log.info("deploy.ended", ok=data["ok"], code=data["code"], built=record.built, seconds=seconds)

    @_harmless()
    def served(self, name: str, incoming: Incoming, answer: Mapping[str, Any] | None) -> None:
        """A request was decided; see `endpoints.Served`."""
        self._metrics.request(name, answer)
        entry = audit.of_request(name, incoming, answer)
        if entry is not None:
            self._events.audit(entry, incoming.trace)

    @_harmless()
    def refused(self, incoming: Incoming, answer: Mapping[str, Any]) -> None:
        """A queued request that became no deploy is told as an event, since nobody may wait for its answer."""
        data = {key: answer.get(key) for key in OF_A_REFUSAL}
        body = incoming.body
        asked = {key: body[key] for key in ("repo_full_name", "branch") if isinstance(body.get(key), str)}
        deploy_id = str(answer.get("deploy_id") or "")
        event_id, at = uuid.uuid4().hex, now()
        self._events.publish(
            Event(event_id=event_id, slug=None, deploy_id=deploy_id, at=at, type=EventType.STATE, data=data | asked),
            incoming.trace,
        )
