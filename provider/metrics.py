"""Prometheus metrics of one provider, in a registry of its own, at `/metrics`.

What happens is counted when it is told; what is, is looked at when somebody scrapes, so it costs a deploy nothing. No
label holds a slug, a deploy id or anything else that callers choose: each has a fixed, small set of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from provider import __version__
from provider.bus.subjects import ENDPOINTS, QUEUE
from provider.errors import Code
from provider.models import DeployRecord, EventType, Phase, PreviewState, now
from provider.pipeline.outages import Part
from provider.store.kv import OPERATIONS

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
"""Buckets of durations: a phase without work takes milliseconds, a build minutes, a deploy hardly ever more."""
OK, ACCEPTED = "ok", "accepted"
"""What stands in place of a failure's code: done, and done later (see `x1_preview_deploys_total`)."""
WAITS = ("deploy", "build")


@dataclass(frozen=True, slots=True)
class Present:
    """What is now: of the whole installation `waiting`, `previews` and `providers`, else of this provider.

    Args:
        waiting: deploys in the line by what they wait for (`WAITS`).
        builds: builds that are running.
        leases: deploys that are under way here, by this provider's lease.
        providers: providers that live.
        previews: by state.
        held_up: deploys that wait for a part of the platform to come back.
        messages: events, audit entries and session messages that are not sent yet.
        connected: whether there is a connection to the bus.
    """

    waiting: Mapping[str, int]
    builds: int
    leases: int
    providers: int
    previews: Mapping[PreviewState, int]
    held_up: Mapping[Part, int]
    messages: int
    connected: bool


class Metrics:
    """Counts what it is told, and shows it."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "x1_preview_requests",
            "Requests by what they were answered: ok, accepted (the deploy's answer follows), or the failure's code.",
            ("request", "code"),
            registry=registry,
        )
        self._deploys = Counter(
            "x1_preview_deploys", "Deploys that ended here, by code; ok: it is up.", ("code",), registry=registry
        )
        self._duration = Histogram(
            "x1_preview_deploy_duration_seconds",
            "From a request's arrival until its outcome was told.",
            ("outcome",),
            buckets=SECONDS,
            registry=registry,
        )
        self._phases = Histogram(
            "x1_preview_phase_duration_seconds",
            "How long a phase took, waiting and retries included.",
            ("phase", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self._builds = Counter(
            "x1_preview_builds",
            "Build phases by result: built, reused (the registry had the image), or failed.",
            ("result",),
            registry=registry,
        )
        self._retries = Counter(
            "x1_preview_phase_retries", "Tries of a phase that failed and were repeated.", ("phase",), registry=registry
        )
        self._waits = Histogram(
            "x1_preview_queue_wait_seconds",
            "How long deploys waited in the line for their turn.",
            ("waits_for",),
            buckets=SECONDS,
            registry=registry,
        )
        self._leases = Counter(
            "x1_preview_lease_events",
            "lapsed: this provider was taken for dead; taken_over: a deploy of a dead one goes on here.",
            ("event",),
            registry=registry,
        )
        self._watches = Counter(
            "x1_preview_watch_restarts", "Watches that broke and began anew.", ("watch",), registry=registry
        )
        self._kv = Counter(
            "x1_preview_kv_errors", "Operations on the records that the bus failed.", ("operation",), registry=registry
        )
        self._start_at_zero()
        ProcessCollector(registry=registry)

    def _start_at_zero(self) -> None:
        """The first of a kind is an increase only if there was a zero before."""
        for phase in Phase:
            self._phases.labels(phase, OK)
            self._phases.labels(phase, "failed")
            self._retries.labels(phase)
        for code in (OK, *Code):
            self._deploys.labels(code)
        for request in (*ENDPOINTS, QUEUE):
            self._requests.labels(request, OK)
        for result in ("built", "reused", "failed"):
            self._builds.labels(result)
        for waits_for in WAITS:
            self._waits.labels(waits_for)
        for event in ("lapsed", "taken_over"):
            self._leases.labels(event)
        for operation in OPERATIONS:
            self._kv.labels(operation)

    # ------------------------------------------------------------------ what is told

    def request(self, name: str, answer: Mapping[str, Any] | None) -> None:
        """A request of that endpoint was answered; None: its answer follows."""
        code = ACCEPTED if answer is None or answer.get("accepted") else OK if answer["ok"] else answer["code"]
        self._requests.labels(name, code).inc()

    def event(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        """An event of a deploy, as the bus is told it."""
        if kind is EventType.PHASE_FINISHED:
            self._phase(record, data)
        elif kind is EventType.STATE and "ok" in data:
            self._deploys.labels(OK if data["ok"] else data["code"]).inc()
            spent = (now() - record.created_at).total_seconds()
            self._duration.labels(OK if data["ok"] else "failed").observe(spent)
        elif kind is EventType.WARNING and "retrying" in data:
            self._retries.labels(record.phase).inc()

    def _phase(self, record: DeployRecord, data: Mapping[str, Any]) -> None:
        self._phases.labels(record.phase, OK if data["ok"] else "failed").observe(data["seconds"])
        if record.phase is Phase.BUILD:
            self._builds.labels("failed" if not data["ok"] else "built" if record.built else "reused").inc()

    def waited(self, waits_for: str, seconds: float) -> None:
        """A deploy got its turn in the line."""
        self._waits.labels(waits_for).observe(seconds)

    def lease(self, event: str) -> None:
        """Something befell this provider's lease."""
        self._leases.labels(event).inc()

    def watch_restarted(self, watch: str) -> None:
        """A watch broke; it begins anew."""
        self._watches.labels(watch).inc()

    def kv_failed(self, operation: str) -> None:
        """The bus failed an operation on the records."""
        self._kv.labels(operation).inc()

    # ----------------------------------------------------------------- what is shown

    def look_at(self, platform: str, present: Callable[[], Present]) -> None:
        """From now on each scrape also shows what is: `present` is asked; `platform` is of the settings."""
        self.registry.register(_Now(platform, present))

    def routes(self) -> list[web.RouteDef]:
        """What the HTTP server serves of this."""
        return [web.get("/metrics", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self.registry), headers={"Content-Type": content_type})


class _Now(Collector):
    """What is looked at when somebody scrapes."""

    def __init__(self, platform: str, present: Callable[[], Present]) -> None:
        self._platform = platform
        self._present = present

    def collect(self) -> Iterator[Metric]:
        seen = self._present()
        about = {"version": __version__, "platform": self._platform}
        yield InfoMetricFamily("x1_preview_provider", "This provider.", value=about)
        yield _by(
            "x1_preview_queue_length",
            "Deploys in the line, of all providers, by what they wait for.",
            "waits_for",
            {name: seen.waiting.get(name, 0) for name in WAITS},
        )
        yield _by(
            "x1_preview_previews",
            "Previews of all providers by state.",
            "state",
            {state: seen.previews.get(state, 0) for state in PreviewState},
        )
        yield _by(
            "x1_preview_deploys_held_up",
            "Deploys here that wait for a part of the platform to come back.",
            "part",
            {part: seen.held_up.get(part, 0) for part in Part},
        )
        for name, what, value in (
            ("builds_running", "Builds of this provider that are running.", seen.builds),
            ("leases_held", "Deploys under way that this provider holds by its lease.", seen.leases),
            ("providers", "Providers that live, as this one sees it.", seen.providers),
            ("messages_waiting", "Events, audit entries and session messages not sent yet.", seen.messages),
            ("bus_connected", "1 while there is a connection to the bus, else 0.", int(seen.connected)),
        ):
            yield GaugeMetricFamily(f"x1_preview_{name}", what, value=value)


def _by(name: str, what: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=(label,))
    for key, value in values.items():
        family.add_metric((str(key),), value)
    return family
