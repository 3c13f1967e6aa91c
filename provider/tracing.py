"""Spans of deploys, where they are wanted: without the extra `otel`, or without its endpoint, all of this is nothing.

A phase's span is made when the phase has ended, from what the record says. So a deploy that another process goes on
with has its phases in one trace, and nothing has to be kept open or handed along meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import structlog

from provider.models import DeployRecord, EventType, TraceContext
from provider.settings import Settings

log = structlog.get_logger(__name__)


class Tracer(Protocol):
    """Makes the spans of one provider."""

    def begin(self, caller: TraceContext | None) -> TraceContext | None:
        """The place of a deploy that is being accepted in its caller's trace, or in one that begins here."""

    def event(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        """An event of a deploy, as the bus is told it."""

    async def close(self) -> None:
        """Send what is not sent yet, for a moment."""


class Untraced:
    """Makes no spans; a caller's trace is handed on as it came."""

    def begin(self, caller: TraceContext | None) -> TraceContext | None:
        """See `Tracer`."""
        return caller

    def event(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        """See `Tracer`."""

    async def close(self) -> None:
        """See `Tracer`."""


def open_tracer(settings: Settings, instance: str) -> Tracer:
    """The tracer that the settings ask for; `instance` is this process's name among the providers."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint:
        return Untraced()
    try:
        from provider.otel import otlp_tracer
    except ImportError as error:
        hint = "pip install 'x1-preview-provider[otel]'"
        log.warning("tracing.not_installed", missing=error.name, hint=hint)
        return Untraced()
    return otlp_tracer(endpoint, instance)
