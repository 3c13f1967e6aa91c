"""Traces: what a message's headers may say, and the spans that a deploy becomes, whoever goes on with it."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from provider.errors import Code
from provider.models import DeployRecord, EventType, Phase, TraceContext
from provider.otel import OtelTracer
from provider.settings import Settings
from provider.tracing import Untraced, open_tracer
from tests.unit.test_leases import deploy

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (None, None),
        ({}, None),
        ({"traceparent": CALLER}, (CALLER, "")),
        ({"Traceparent": CALLER, "TraceState": "rojo=1, congo=t61"}, (CALLER, "rojo=1, congo=t61")),
        ({"traceparent": CALLER, "tracestate": "no state"}, (CALLER, "")),
        ({"traceparent": CALLER, "tracestate": ",".join(f"a{n}=1" for n in range(33))}, (CALLER, "")),
        ({"traceparent": f"cc-{TRACE}-{SPAN}-01-what-comes-later"}, (CALLER, "")),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01-more"}, None),
        ({"traceparent": f"ff-{TRACE}-{SPAN}-01"}, None),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-01"}, None),
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, None),
        ({"traceparent": CALLER.upper()}, None),
        ({"traceparent": "x" * 10_000}, None),
        ({"tracestate": "rojo=1"}, None),
    ],
)
def test_only_a_well_formed_context_is_taken(headers: dict[str, str] | None, found: tuple[str, str] | None) -> None:
    context = TraceContext.read(headers)
    assert (context and (context.traceparent, context.tracestate)) == found


class Process:
    """One provider's tracer, and what it sent."""

    def __init__(self, name: str) -> None:
        self._sent = InMemorySpanExporter()
        self.tracer = OtelTracer(SimpleSpanProcessor(self._sent), name)

    def phase(self, record: DeployRecord, phase: Phase, data: dict[str, Any]) -> None:
        self.tracer.event(record.model_copy(update={"phase": phase}), EventType.PHASE_FINISHED, data)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._sent.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span, and parent."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent is not None else ""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def test_a_deploy_that_another_process_finishes_is_one_trace() -> None:
    first, second = Process("first"), Process("second")
    caller = TraceContext(traceparent=CALLER, tracestate="rojo=1")
    record = deploy().model_copy(update={"trace": first.tracer.begin(caller), "slug": "shop"})
    first.phase(record, Phase.RESOLVE, {"ok": True, "seconds": 0.5})
    stored = DeployRecord.model_validate_json(record.model_dump_json())
    second.phase(stored, Phase.BUILD, {"ok": False, "seconds": 2.0, "code": Code.JOB_TIMEOUT, "message": "too long"})
    second.tracer.event(stored, EventType.STATE, {"ok": False, "code": Code.JOB_TIMEOUT, "url": None})

    assert stored.trace is not None
    assert stored.trace.headers() == {"traceparent": stored.trace.traceparent, "tracestate": "rojo=1"}
    own = stored.trace.span_id
    resolve, build, whole = first.spans["deploy.resolve"], second.spans["deploy.build"], second.spans["deploy"]
    assert ids(whole) == (TRACE, own, SPAN)
    assert {ids(span)[::2] for span in (resolve, build)} == {(TRACE, own)}
    assert (whole.status.status_code, build.status.description) == (StatusCode.ERROR, "too long")
    assert resolve.status.status_code is StatusCode.UNSET
    assert build.attributes is not None
    assert build.attributes["error.type"] == "job_timeout"
    assert build.attributes["x1.preview.slug"] == "shop"
    assert build.end_time is not None
    assert build.start_time is not None
    assert build.end_time - build.start_time == 2_000_000_000
    assert whole.start_time == int(record.created_at.timestamp() * 1e9)
    assert second.spans["deploy"].resource.attributes["service.instance.id"] == "second"


def test_without_a_caller_a_trace_begins_here() -> None:
    process = Process("only")
    record = deploy().model_copy(update={"trace": process.tracer.begin(None)})
    process.tracer.event(record, EventType.STATE, {"ok": True, "code": None, "url": "https://x"})
    process.tracer.event(record, EventType.STATE, {"joins": "other"})
    assert record.trace is not None
    assert ids(process.spans["deploy"]) == (record.trace.trace_id, record.trace.span_id, "")


def test_what_the_caller_does_not_sample_is_not_sent_but_handed_on() -> None:
    process = Process("only")
    trace = process.tracer.begin(TraceContext(traceparent=f"00-{TRACE}-{SPAN}-00"))
    record = deploy().model_copy(update={"trace": trace, "deadline": deploy().created_at + timedelta(hours=1)})
    process.phase(record, Phase.BUILD, {"ok": True, "seconds": 1.0})
    process.tracer.event(record, EventType.STATE, {"ok": True, "code": None, "url": None})
    assert process.spans == {}
    assert trace is not None
    assert (trace.trace_id, trace.traceparent[-2:]) == (TRACE, "00")


def test_a_deploy_that_was_accepted_without_spans_gets_those_of_its_phases_below_the_caller() -> None:
    process = Process("later")
    record = deploy().model_copy(update={"trace": Untraced().begin(TraceContext(traceparent=CALLER))})
    process.phase(record, Phase.BUILD, {"ok": True, "seconds": 1.0})
    process.tracer.event(record, EventType.STATE, {"ok": True, "code": None, "url": None})
    process.phase(deploy(), Phase.BUILD, {"ok": True, "seconds": 1.0})
    assert [ids(span)[::2] for span in process.spans.values()] == [(TRACE, SPAN)]


async def test_a_collector_that_is_away_keeps_nobody_from_ending() -> None:
    tracer = open_tracer(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:9"), "one")
    assert isinstance(tracer, OtelTracer)
    await tracer.close()


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert isinstance(open_tracer(Settings(), "one"), Untraced)


def test_without_the_extra_an_endpoint_is_only_warned_about() -> None:
    script = """
import sys
sys.modules["opentelemetry"] = None
from provider.settings import Settings
from provider.tracing import open_tracer
print(type(open_tracer(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:9"), "one")).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "tracing.not_installed" in done.stdout
    assert done.stdout.splitlines()[-1] == "Untraced"
