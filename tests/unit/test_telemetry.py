"""What is told of a deploy: masked where others speak, counted once however often its request comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
import structlog

from provider.bus.events import EventPublisher
from provider.masking import Everything
from provider.metrics import Metrics
from provider.models import DeployRecord, Event, EventType, Phase, TraceContext
from provider.pipeline.logbook import Logbook
from provider.telemetry import Telemetry
from provider.tracing import Tracer
from tests.unit.test_leases import deploy

SECRET = "hunter2hunter2"
FAILED = {"ok": False, "seconds": 2.0, "code": "kaniko_build_failed", "message": f"it printed {SECRET}"}


class Taken:
    """Keeps what a publisher and a tracer are given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.audited: list[Mapping[str, Any]] = []
        self.spans: list[Mapping[str, Any]] = []

    def publish(self, event: Event, trace: TraceContext | None = None) -> None:
        self.events.append(event)

    def audit(self, entry: Mapping[str, Any], trace: TraceContext | None = None) -> None:
        self.audited.append(entry)

    def event(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        self.spans.append(data)


def made() -> tuple[Telemetry, Taken, Metrics, Logbook]:
    taken, metrics, logbook = Taken(), Metrics(), Logbook(shelf=cast(Any, None), most=0)
    telemetry = Telemetry(
        events=cast(EventPublisher, taken), metrics=metrics, tracer=cast(Tracer, taken), logbook=logbook
    )
    return telemetry, taken, metrics, logbook


def counted(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"x1_preview_{name}", labels)


def test_spans_and_events_hold_no_secret_and_metrics_get_their_numbers() -> None:
    telemetry, taken, metrics, logbook = made()
    logbook.learn("d", [SECRET])
    record = deploy().model_copy(update={"phase": Phase.BUILD})
    telemetry.emit(record, EventType.PHASE_FINISHED, FAILED)
    assert taken.events[0].data["message"] == taken.spans[0]["message"] == "it printed ***"
    assert counted(metrics, "phase_duration_seconds_sum", phase="build", outcome="failed") == 2.0


def test_a_deploy_of_which_nothing_may_be_shown_is_counted() -> None:
    telemetry, taken, metrics, logbook = made()
    logbook._secrets["d"], logbook._maskers["d"] = frozenset(), Everything()
    telemetry.emit(deploy().model_copy(update={"phase": Phase.BUILD}), EventType.PHASE_FINISHED, FAILED)
    assert SECRET not in str(taken.events[0].data) + str(taken.spans)
    assert counted(metrics, "builds_total", result="failed") == 1


def test_a_request_that_comes_again_is_told_but_not_counted_again() -> None:
    telemetry, taken, metrics, _ = made()
    ended = {"ok": True, "code": None, "url": "https://shop"}
    telemetry.emit(deploy(), EventType.STATE, ended)
    telemetry.emit(deploy().model_copy(update={"deploy_id": "d.1a2b"}), EventType.STATE, ended)
    assert [event.deploy_id for event in taken.events] == ["d", "d"]
    assert counted(metrics, "deploys_total", code="ok") == 1
    assert (len(taken.audited), len(taken.spans)) == (1, 1)


def test_a_builds_lines_are_events_alone() -> None:
    telemetry, taken, _, _ = made()
    telemetry.emit(deploy(), EventType.LOG, {"lines": ["a"]})
    assert (len(taken.events), taken.audited, taken.spans) == (1, [], [])


@pytest.mark.parametrize("broken", ["publish", "audit", "event"])
def test_a_bug_in_telling_ends_no_deploy(broken: str) -> None:
    telemetry, taken, _, _ = made()
    setattr(taken, broken, lambda: None)  # takes nothing of what it is given
    with structlog.testing.capture_logs() as logged:
        telemetry.emit(deploy(), EventType.STATE, {"ok": True, "code": None, "url": "https://shop"})
    assert "telemetry.failed" in [line["event"] for line in logged]
