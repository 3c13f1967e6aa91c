"""Metrics: what is told is counted under labels of a fixed set, and what is now is looked at when somebody asks."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import REGISTRY, generate_latest

from provider.errors import Code
from provider.metrics import Metrics, Present
from provider.models import EventType, Phase, PreviewState
from provider.pipeline.outages import Part
from tests.unit.test_leases import deploy

NOTHING = Present({}, 0, 0, 1, {}, {}, 0, True)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"x1_preview_{name}", labels)


def finished(metrics: Metrics, phase: Phase, data: dict[str, Any], **changes: Any) -> None:
    metrics.event(deploy().model_copy(update={"phase": phase, **changes}), EventType.PHASE_FINISHED, data)


def test_a_phase_is_counted_by_its_outcome_in_the_bucket_of_its_time() -> None:
    metrics = Metrics()
    finished(metrics, Phase.BUILD, {"ok": True, "seconds": 42.0}, built=True)
    finished(metrics, Phase.BUILD, {"ok": True, "seconds": 0.02})
    finished(metrics, Phase.BUILD, {"ok": False, "seconds": 3.0, "code": Code.KANIKO_BUILD_FAILED})
    ok = {"phase": "build", "outcome": "ok"}
    counts = [value(metrics, "phase_duration_seconds_bucket", le=le, **ok) for le in ("0.01", "0.025", "30.0", "60.0")]
    assert counts == [0, 1, 1, 2]
    assert value(metrics, "phase_duration_seconds_count", phase="build", outcome="failed") == 1
    results = {result: value(metrics, "builds_total", result=result) for result in ("built", "reused", "failed")}
    assert results == {"built": 1, "reused": 1, "failed": 1}


def test_states_that_decide_nothing_are_no_deploys() -> None:
    metrics, record = Metrics(), deploy()
    metrics.event(record, EventType.STATE, {"waits_for": "deploy", "position": 1, "of": 1})
    metrics.event(record, EventType.STATE, {"joins": "other"})
    metrics.event(record, EventType.STATE, {"ok": False, "code": Code.SUPERSEDED, "url": None})
    metrics.event(record, EventType.WARNING, {"message": "something"})
    metrics.event(record, EventType.WARNING, {"retrying": "a try failed", "in_seconds": 1})
    assert value(metrics, "deploys_total", code="superseded") == 1
    assert sum(value(metrics, "deploys_total", code=code) or 0 for code in ("ok", *Code)) == 1
    assert value(metrics, "phase_retries_total", phase="resolve") == 1


def test_requests_are_counted_by_what_they_were_answered() -> None:
    metrics = Metrics()
    answers: list[dict[str, Any] | None] = [None, {"ok": True, "accepted": True}, {"ok": False, "code": "conflict"}]
    for answer in answers:
        metrics.request("provision", answer)
    metrics.request("status", {"ok": True})
    assert value(metrics, "requests_total", request="provision", code="accepted") == 2
    assert value(metrics, "requests_total", request="provision", code="conflict") == 1
    assert value(metrics, "requests_total", request="status", code="ok") == 1


def test_what_is_now_is_asked_at_each_scrape() -> None:
    metrics, seen = Metrics(), [NOTHING]
    metrics.look_at("container", lambda: seen[0])
    assert value(metrics, "previews", state="ready") == 0
    seen[0] = Present({"build": 3}, 2, 5, 1, {PreviewState.READY: 7}, {Part.GIT: 4}, 9, False)
    assert value(metrics, "queue_length", waits_for="build") == 3
    assert value(metrics, "queue_length", waits_for="deploy") == 0
    assert value(metrics, "previews", state="ready") == 7
    assert value(metrics, "deploys_held_up", part="git host") == 4
    assert [value(metrics, name) for name in ("builds_running", "leases_held", "bus_connected")] == [2, 5, 0]


def test_two_providers_of_one_process_count_apart_and_nothing_is_global() -> None:
    first, second = Metrics(), Metrics()
    first.watch_restarted("Pod")
    assert value(first, "watch_restarts_total", watch="Pod") == 1
    assert value(second, "watch_restarts_total", watch="Pod") is None
    assert b"x1_preview" not in generate_latest(REGISTRY)


def test_a_deploys_metrics_cost_less_than_a_millisecond() -> None:
    """By far less; a busy machine may be slow."""
    metrics, record = Metrics(), deploy()
    began = time.process_time()
    for _ in range(100):
        metrics.request("provision", None)
        for phase in Phase:
            finished(metrics, phase, {"ok": True, "seconds": 0.1})
        metrics.event(record, EventType.STATE, {"ok": True, "code": None, "url": None})
    assert (time.process_time() - began) / 100 < 0.001
