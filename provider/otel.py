"""Spans by OpenTelemetry. The only file that imports it: a provider that sends no spans does not load it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from provider import __version__
from provider.models import DeployRecord, EventType, TraceContext

CLOSE_SECONDS = 1.0


class OtelTracer:
    """See `tracing.Tracer`.

    Args:
        processor: gets the spans.
        instance: this process's name among the providers.
    """

    def __init__(self, processor: SpanProcessor, instance: str) -> None:
        about = {
            "service.name": "x1-preview-provider",
            "service.version": __version__,
            "service.instance.id": instance,
        }
        resource = Resource(about).merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME wins
        self._ids = _Ids()
        self._spans = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._spans.add_span_processor(processor)
        self._tracer = self._spans.get_tracer("provider", __version__)

    def begin(self, caller: TraceContext | None) -> TraceContext | None:
        """See `Tracer`. The deploy's span gets its ids and is sampled now; it is made when the deploy has ended."""
        span = self._tracer.start_span("deploy", context=_below(caller.traceparent if caller else ""))
        ids = span.get_span_context()
        return TraceContext(
            traceparent=f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}",
            tracestate=caller.tracestate if caller else "",
            own=True,
            parent=caller.traceparent if caller else "",
        )

    def event(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        """See `Tracer`."""
        if record.trace is None:
            return  # accepted by a provider that makes no spans
        if kind is EventType.PHASE_FINISHED:
            end = time.time_ns()
            begin = end - int(data["seconds"] * 1e9)
            where = _below(record.trace.traceparent)
            self._make(f"deploy.{record.phase}", where, SpanKind.INTERNAL, begin, end, record, data)
        elif kind is EventType.STATE and "ok" in data and record.trace.own:
            self._ids.next = (int(record.trace.trace_id, 16), int(record.trace.span_id, 16))
            where, begin = _below(record.trace.parent), _nanoseconds(record.created_at)
            self._make("deploy", where, SpanKind.CONSUMER, begin, time.time_ns(), record, data)

    def _make(
        self,
        name: str,
        where: Context,
        kind: SpanKind,
        begin: int,
        end: int,
        record: DeployRecord,
        data: Mapping[str, Any],
    ) -> None:
        span = self._tracer.start_span(name, context=where, kind=kind, start_time=begin, attributes=_about(record))
        if not data["ok"]:
            span.set_attribute("error.type", str(data.get("code") or "failed"))
            span.set_status(Status(StatusCode.ERROR, data.get("message") or _message(record)))
        span.end(end)

    async def close(self) -> None:
        """See `Tracer`. A collector that does not answer keeps nobody from ending."""
        closing = threading.Thread(target=self._spans.shutdown, name="close spans", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)


class _Ids(RandomIdGenerator):
    """Random ids, but for a span whose ids were given before: `next`, of its trace and itself, counts once."""

    def __init__(self) -> None:
        self.next: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.next[0] if self.next is not None else super().generate_trace_id()

    def generate_span_id(self) -> int:
        if self.next is None:
            return super().generate_span_id()
        given, self.next = self.next[1], None
        return given


def otlp_tracer(endpoint: str, instance: str) -> OtelTracer:
    """Sends spans by OTLP over HTTP to a collector; OpenTelemetry's other variables count, too."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    return OtelTracer(BatchSpanProcessor(exporter), instance)


def _below(traceparent: str) -> Context:
    """The context in which a span is a child of that one; "": in which it begins a trace."""
    if not traceparent:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _about(record: DeployRecord) -> dict[str, str]:
    request = record.request
    known = {
        "deploy_id": record.answer_id,
        "slug": record.slug,
        "session": request.session_id,
        "repository": request.repo_full_name,
        "branch": request.branch,
        "commit": record.commit_sha,
    }
    return {f"x1.preview.{name}": value for name, value in known.items() if value}


def _message(record: DeployRecord) -> str:
    return (record.report.message if record.report is not None else None) or ""


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
