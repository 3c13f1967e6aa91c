"""What operators see of a real provider that deployed: its metrics, its readiness."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from aiohttp import web
from nats.aio.msg import Msg
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from provider.demo.loopback import LoopbackServer
from provider.demo.world import World, local_world
from tests.e2e.apps import app_files
from tests.e2e.helpers import eventually, log_lines, send
from tests.promql import expressions, lacking

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def ask(world: World, path: str) -> httpx.Response:
    """What the provider's own HTTP server answers."""
    address = log_lines(world, "provider.ready")[-1]["http"]
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(f"http://{address}{path}")


async def scraped(world: World) -> Samples:
    """Every sample that Prometheus would read."""
    answer = await ask(world, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


async def described(world: World) -> set[str]:
    """The names of all metrics, also of those without a sample yet."""
    families = list(text_string_to_metric_families((await ask(world, "/metrics")).text))
    return {one.name + ("_total" if one.type == "counter" else "") for one in families}


class Collector(LoopbackServer):
    """Takes spans as an OpenTelemetry collector does: by name its trace, itself and its parent, in hexadecimal."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: dict[str, tuple[str, str, str]] = {}
        self._changed = asyncio.Event()

    @property
    def settings(self) -> dict[str, str]:
        """What a provider needs to send spans here, and soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    async def respond(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/v1/traces"
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for found in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in (one for scope in found.scope_spans for one in scope.spans):
                self.spans[span.name] = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
        self._changed.set()
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def until(self, name: str) -> None:
        """Wait for a span."""
        async with asyncio.timeout(20):
            while name not in self.spans:
                self._changed.clear()
                await self._changed.wait()


def all_lines(world: World) -> list[dict[str, Any]]:
    """What the provider logged."""
    lines = world.provider.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


class Change:
    """What grew between two scrapes, by name and labels."""

    def __init__(self, before: Samples, after: Samples) -> None:
        self._grown = {key: value - before.get(key, 0.0) for key, value in after.items()}

    def of(self, name: str, **labels: str) -> float:
        """By how much."""
        return self._grown[name, frozenset(labels.items())]

    def moved(self, name: str) -> dict[str, float]:
        """Of a metric with one label: which values grew."""
        found = {labels: value for (one, labels), value in self._grown.items() if one == name and value}
        return {next(iter(labels))[1]: value for labels, value in found.items()}


async def test_metrics_count_what_was_deployed(world: World) -> None:
    before = await scraped(world)
    sha = await world.commit("acme/counted", app_files("counted", world.base_image))
    good, reused = await provisioned(world, "counted", sha), await provisioned(world, "counted", sha)
    broken = app_files("miscounted", world.base_image, dockerfile_extra="COPY absent /")
    failed = await provisioned(world, "miscounted", await world.commit("acme/miscounted", broken))
    assert (await send(world, "status", {"slug": "counted"}))["ok"]
    assert (await send(world, "status", b"{"))["code"] == "bad_request_decode"
    assert (good["built"], reused["built"], failed["code"]) == (True, False, "kaniko_build_failed")

    grown = Change(before, after := await scraped(world))
    assert grown.moved("x1_preview_deploys_total") == {"ok": 2, "kaniko_build_failed": 1}
    assert grown.moved("x1_preview_builds_total") == {"built": 1, "reused": 1, "failed": 1}
    assert grown.of("x1_preview_requests_total", request="provision", code="accepted") == 3
    assert grown.of("x1_preview_requests_total", request="status", code="ok") == 1
    assert grown.of("x1_preview_requests_total", request="status", code="bad_request_decode") == 1
    phases = {
        phase: (
            grown.of("x1_preview_phase_duration_seconds_count", phase=phase, outcome="ok"),
            grown.of("x1_preview_phase_duration_seconds_count", phase=phase, outcome="failed"),
        )
        for phase in ("resolve", "admit", "build", "deploy", "rollout", "verify", "publish", "restore")
    }
    through = dict.fromkeys(("deploy", "rollout", "verify"), (2, 0))
    assert phases == {
        "resolve": (3, 0),
        "admit": (3, 0),
        "build": (2, 1),
        **through,
        "publish": (3, 0),
        "restore": (0, 0),
    }
    told = sum(done["timings"]["build"] for done in (good, reused))
    assert abs(grown.of("x1_preview_phase_duration_seconds_sum", phase="build", outcome="ok") - told) < 0.05
    assert grown.of("x1_preview_deploy_duration_seconds_count", outcome="ok") == 2
    assert grown.of("x1_preview_queue_wait_seconds_count", waits_for="deploy") == 3
    assert grown.of("x1_preview_queue_wait_seconds_count", waits_for="build") == 2

    async def seen() -> bool:  # by the watch, a moment later
        return Change(before, await scraped(world)).moved("x1_preview_previews") == {"ready": 1, "failed": 1}

    await eventually(seen, what="the previews are counted by their states")
    for gauge, value in {"providers": 1, "bus_connected": 1, "builds_running": 0}.items():
        assert after[f"x1_preview_{gauge}", frozenset()] == value
    names = await described(world)
    samples = [(name, sorted(labels)) for name, labels in after]
    assert {text: problems for text in expressions() if (problems := lacking(text, samples, names))} == {}
    assert no_names(after, ("counted", "miscounted", good["deploy_id"], sha)) == []


async def provisioned(world: World, name: str, sha: str) -> dict[str, Any]:
    """The answer to one request that is not repeated, as a client would."""
    asked = {"repo_full_name": f"acme/{name}", "branch": "main", "commit_sha": sha}
    return await send(world, "provision", asked | {"installation_id": world.installation_id}, timeout=90)


def no_names(samples: Samples, names: Iterable[str]) -> list[str]:
    """Labels that hold what a caller chose; each one would be a series of its own for ever."""
    return [value for _, labels in samples for _, value in labels if any(name in value for name in names)]


@pytest.fixture(scope="module")
async def observed() -> AsyncIterator[tuple[World, Collector]]:
    """A world whose provider sends spans, and notices soon what lacks."""
    async with AsyncExitStack() as both:
        collector = await both.enter_async_context(Collector())
        settings = {**collector.settings, "LEASE_SECONDS": "2"}
        yield await both.enter_async_context(local_world(environment=settings)), collector


async def test_a_callers_trace_goes_along_and_each_line_and_entry_names_the_deploy(
    observed: tuple[World, Collector],
) -> None:
    world, collector = observed
    nats, heard = world.client.nats, list[Msg]()

    async def hear(message: Msg) -> None:
        heard.append(message)

    for subject in (world.client.subjects.all_events, "x1.audit.preview", "x1.session.s-1.input"):
        await nats.subscribe(subject, cb=hear)
    sha = await world.commit("acme/traced", app_files("traced", world.base_image))
    asked: dict[str, Any] = {
        "repo_full_name": "acme/traced",
        "branch": "main",
        "commit_sha": sha,
        "deploy_id": "d-1",
    }
    asked |= {"installation_id": world.installation_id, "session_id": "s-1", "notify": True}
    subject = world.client.subjects.request("provision")
    headers = {"Traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "rojo=1"}
    reply = await nats.request(subject, json.dumps(asked).encode(), timeout=60, headers=headers)
    assert json.loads(reply.data)["ok"]
    await nats.request(world.client.subjects.request("teardown"), b'{"slug": "traced"}', timeout=30)
    await collector.until("deploy")

    own = reply.headers or {}
    assert own["tracestate"] == "rojo=1"
    about = [one for one in heard if b"d-1" in one.data or one.subject.startswith("x1.session")]
    asked_by = [one for one in about if b'"action":"provision"' in one.data]  # what the caller did, rather than we
    sent = {(one.headers or {}).get("traceparent") for one in about if one not in asked_by}
    assert sent == {own["traceparent"]}
    assert [(one.headers or {})["traceparent"] for one in asked_by] == [headers["Traceparent"]]
    assert collector.spans["deploy"] == (TRACE, own["traceparent"].split("-")[2], "00f067aa0ba902b7")
    phases = {f"deploy.{phase}" for phase in ("resolve", "admit", "build", "deploy", "rollout", "verify", "publish")}
    assert collector.spans.keys() == {"deploy", *phases}
    assert {collector.spans[phase][::2] for phase in phases} == {(TRACE, own["traceparent"].split("-")[2])}

    async def all_entries() -> bool:
        return sum(one.subject == "x1.audit.preview" for one in heard) >= 3

    await eventually(all_entries, what="the audit trail, which is told beside the answers")
    entries = [json.loads(one.data) for one in heard if one.subject == "x1.audit.preview"]
    decided = [(one["action"], one["decided"], one.get("deploy_id"), one.get("session_id")) for one in entries]
    assert decided == [
        ("provision", "accepted", "d-1", "s-1"),
        ("deploy", "done", "d-1", "s-1"),
        ("teardown", "done", None, None),
    ]
    lines = [line for line in all_lines(world) if line.get("deploy_id") == "d-1"]
    assert {"deploy.accepted", "build.finished", "deploy.ended"} <= {line["event"] for line in lines}
    assert {(line.get("session"), line.get("trace_id")) for line in lines} == {("s-1", TRACE)}
    assert {line.get("slug") for line in lines if line["event"] != "deploy.accepted"} == {"traced"}


async def test_readiness_says_what_lacks(observed: tuple[World, Collector]) -> None:
    own_world, _ = observed
    ready = (await ask(own_world, "/readyz")).json()
    parts = {part["name"]: part["ok"] for part in ready["parts"]}
    assert ready["ready"]
    assert {"requests", "bus", "store", "lease", "registry"} <= parts.keys()
    await own_world.stack.nats.kill()

    async def lacks() -> bool:
        answer = await ask(own_world, "/readyz")
        broken = {part["name"]: part["hint"] for part in answer.json()["parts"] if not part["ok"]}
        return answer.status_code == 503 and broken.keys() == {"bus", "lease"} and all(broken.values())

    await eventually(lacks, timeout=20, what="the bus is told to lack")
    assert (await ask(own_world, "/healthz")).status_code == 200
    await own_world.stack.nats.start()

    async def well() -> bool:
        return (await ask(own_world, "/readyz")).status_code == 200

    await eventually(well, timeout=20, what="it is ready again")
