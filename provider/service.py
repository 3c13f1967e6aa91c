"""The composition root: construct, run, resume, drain."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import structlog
from nats.aio.client import Client

from provider.actor import Actor
from provider.approving import Approving
from provider.background import ended, forever, logged
from provider.bus.connection import has_jetstream
from provider.bus.endpoints import Endpoints
from provider.bus.events import EventPublisher
from provider.bus.identity import BusClient
from provider.bus.queue import WorkQueue
from provider.bus.reporter import Reporter
from provider.bus.streams import InboxStream
from provider.bus.subjects import Subjects
from provider.dashboard import Dashboard, Holding
from provider.health import Health
from provider.http_server import HttpServer
from provider.introspection import Introspection
from provider.keeper.keeper import Keeper
from provider.leases import Leases
from provider.metrics import Metrics, Present
from provider.models import DeployRecord, EventType, Phase, PreviewState, Revision, Stage
from provider.pipeline.causes import cancelled
from provider.pipeline.context import Context
from provider.pipeline.intake import Intake
from provider.pipeline.line import Line, limits_of
from provider.pipeline.logbook import Logbook
from provider.pipeline.runner import Runner
from provider.pipeline.teardown import finish_teardown
from provider.platforms.base import PartStatus, Platform
from provider.platforms.choice import open_platform
from provider.policy.watched import LOOK_SECONDS, WatchedPolicy
from provider.settings import Settings
from provider.source import Credentials, Source
from provider.spec import SPEC_PATH
from provider.store import Membership, Store, memory_store, open_shelf, open_store
from provider.telemetry import Telemetry
from provider.tenure import Tenure
from provider.tracing import open_tracer
from provider.waiting import Waiting

log = structlog.get_logger(__name__)

HOUSEKEEPING_SECONDS = 600.0
TOMBSTONE_AGE = timedelta(hours=1)
GIT_IDLE_SECONDS = 7 * 24 * 3600.0
DRAIN_SECONDS = 3.0
ABANDON_SECONDS = 2.0
LEAVE_SECONDS = 1.0
LOG_SECONDS = 1.0
BEATS = 3
"""Heartbeats in the time of a lease."""
POLICY = "Correct POLICY_FILE; the log names every mistake."
BUS = "Is nats-server up, and NATS_URL right?"
MEMORY_ONLY = "no JetStream: records are in memory and end with this process"


class Provider:
    """One running provider: its parts, wired."""

    def __init__(
        self,
        *,
        settings: Settings,
        nc: Client,
        platform: Platform,
        source: Source,
        store: Store,
        jetstream: bool,
        membership: Membership,
        logbook: Logbook,
        metrics: Metrics,
        policy: WatchedPolicy,
    ) -> None:
        self._settings = settings
        self._jetstream = jetstream
        self._store = store
        self._source = source
        self._platform = platform
        self._nc = nc
        self._stopping = False
        subjects = Subjects(settings.subject_prefix)
        self._events = EventPublisher(nc, subjects, jetstream=jetstream)
        tracer = self._tracer = open_tracer(settings, membership.name)
        self._holding = Holding(platform.hold)
        telemetry = self._telemetry = Telemetry(events=self._events, metrics=metrics, tracer=tracer, logbook=logbook)
        ctx = self._ctx = Context(
            settings=settings,
            platform=platform,
            source=source,
            store=store,
            reporter=Reporter(nc, self._events),
            emit=self._emit,
            line=Line(store=store, limits=limits_of(settings), emit=self._emit, waited=metrics.waited),
            logbook=logbook,
            policy=policy,
        )
        self._runner = Runner(ctx)
        self._leases = Leases(
            ctx=ctx, runner=self._runner, membership=membership, exclusive=platform.exclusive, told=metrics.lease
        )
        intake = Intake(ctx, self._runner, lambda: membership.owner)
        actor = Actor(ctx=ctx, runner=self._runner, intake=intake, tracer=tracer)
        self._keeper = Keeper(
            ctx=ctx, runner=self._runner, mine=self._leases.mine, publish=self._events.publish, lasting=jetstream
        )
        tenure = Tenure(ctx=ctx)
        self._looks = looks = Introspection(ctx=ctx, status=actor.status, streams=partial(InboxStream, nc))
        self._waiting = waiting = Waiting(ctx)
        approving = Approving(ctx=ctx)
        handlers = actor.handlers() | tenure.handlers() | looks.handlers() | waiting.handlers() | approving.handlers()
        self._endpoints = Endpoints(nc, subjects, handlers, telemetry.served)
        self._queue = WorkQueue(nc, subjects, actor.queued, telemetry.refused, telemetry.served)
        self._dashboard = Dashboard(settings=settings, store=store, introspection=looks)
        health = Health(self._own_parts, platform.parts)
        self._http = HttpServer(settings.http_address, [*health.routes(), *metrics.routes(), *self._dashboard.routes()])
        metrics.look_at(settings.platform, self._present)
        self._tasks: list[asyncio.Task[None]] = []
        self._queue_task: asyncio.Task[None] | None = None

    @classmethod
    async def build(cls, settings: Settings, nc: BusClient, http: httpx.AsyncClient) -> Provider:
        """Construct every part from the settings."""
        policy = WatchedPolicy(settings.policy_file)
        policy.open()
        jetstream, metrics, own = await has_jetstream(nc), Metrics(), settings.secrets()
        subjects = Subjects(settings.subject_prefix)
        if jetstream:
            store = await open_store(nc, subjects.bucket_prefix, settings.platform_id, failed=metrics.kv_failed)
        else:
            log.warning("store.memory_only", detail=MEMORY_ONLY)
            store = memory_store(settings.platform_id)
        shelf = await open_shelf(
            nc if jetstream else None,
            subjects.logs_bucket,
            settings.state_dir / "logs",
            most=settings.build_logs_bytes,
            age=settings.build_logs_seconds,
        )
        return cls(
            settings=settings,
            nc=nc,
            platform=await open_platform(settings, http, metrics.watch_restarted),  # last, since nobody would close it
            source=Source(
                settings=settings,
                credentials=Credentials(settings=settings, http=http),
                http=http,
                wanted=(SPEC_PATH, "Dockerfile"),
            ),
            store=store,
            jetstream=jetstream,
            membership=store.membership(settings.instance_name or uuid.uuid4().hex[:12], settings.lease_seconds),
            logbook=Logbook(
                shelf=shelf,
                most=settings.build_log_bytes,
                secrets=lambda: own | nc.secrets,
            ),
            metrics=metrics,
            policy=policy,
        )

    async def start(self) -> None:
        """Bring up what serves, go on with unfinished deploys, then take requests."""
        self._events.start()
        previews = await self._store.previews()
        for preview in previews:
            self._dashboard.on_preview(preview)  # whoever looks at a page finds it there again at once
        going = [one.slug for one in previews if one.state is PreviewState.REMOVING]
        await self._platform.start(self._serving(frozenset(going)))
        resumed = frozenset(record.slug for record in await self._leases.start() if record.slug)
        self._tasks = [
            asyncio.create_task(forever(self._watch_previews, 0), name="watch previews"),
            asyncio.create_task(forever(partial(self._ctx.line.watch, self._leases.mine), 0), name="watch the line"),
            asyncio.create_task(forever(self._watch_cancel_requests, 0), name="watch cancel requests"),
            asyncio.create_task(forever(self._watch_verdicts, 0), name="watch verdicts"),
            asyncio.create_task(forever(self._ctx.policy.once, LOOK_SECONDS), name="watch the policy"),
            asyncio.create_task(forever(self._holding.run, 0), name="holding pages"),
            asyncio.create_task(forever(self._leases.once, self._settings.lease_seconds / BEATS), name="lease"),
            asyncio.create_task(forever(self._housekeeping, HOUSEKEEPING_SECONDS), name="housekeeping"),
            asyncio.create_task(self._put_right(going, resumed), name="put right"),
            *(asyncio.create_task(one.run(), name=one.name) for one in self._keeper.chores),
        ]
        await self._endpoints.start()
        if self._jetstream:
            self._queue_task = asyncio.create_task(forever(self._queue.run, 0), name="queue")
        address = await self._http.start()
        log.info("provider.ready", prefix=self._settings.subject_prefix, http=address, previews=len(previews))

    async def _serving(self, going: frozenset[str]) -> AsyncIterator[tuple[str, Revision]]:
        """What is to serve, but for previews that are going."""
        # What is just being verified may have its traffic already: to take it back and give it again helps nobody.
        unfinished = await self._store.unfinished_deploys()
        left = {*going, *(record.slug for record in unfinished if record.phase is Phase.VERIFY)}
        async for slug, preview in self._store.each_preview():
            if preview is not None and preview.last_good is not None and slug not in left:
                yield slug, preview.last_good

    async def close(self) -> None:
        """Take no more requests, leave what is under way to the next process, say what is still to be said."""
        self._stopping = True
        if self._queue_task is not None:
            await ended([self._queue_task])
        await self._waiting.close()
        await self._endpoints.close(DRAIN_SECONDS)
        await self._looks.close()
        await self._queue.close()
        await self._runner.close(ABANDON_SECONDS)
        await self._ctx.logbook.close(LOG_SECONDS)
        await self._ctx.line.close()
        await ended(self._tasks)
        with contextlib.suppress(TimeoutError):  # then it lapses
            async with asyncio.timeout(LEAVE_SECONDS):
                await logged(self._leases.close())
        await self._dashboard.close()
        await self._http.close()
        await self._platform.close()
        await self._events.close()
        await self._tracer.close()

    async def _put_right(self, going: list[str], resumed: frozenset[str]) -> None:
        """Finish teardowns that were cut off, and tidy up what a killed provider had not tidied up yet."""
        for slug in going:
            await logged(finish_teardown(self._ctx, self._runner, slug))
        for preview in await self._store.previews():
            if preview.slug not in resumed and self._leases.mine(preview.slug):
                await logged(self._runner.put_right(preview.slug))

    async def _watch_previews(self) -> None:
        """Deploys that are not a preview's newest any more end, whoever changed it."""
        async for preview in self._store.watch_previews():
            self._waiting.on_preview(preview)
            outline = preview.outline()  # what is kept of it: one for all
            self._runner.on_preview(outline)
            self._keeper.on_preview(outline)
            self._dashboard.on_preview(outline)
            self._holding.on_preview(outline)

    async def _watch_cancel_requests(self) -> None:
        """Stop deploys that somebody asked another provider to stop."""
        async for deploy_id in self._store.cancels.watch():
            self._runner.interrupt(deploy_id, cancelled("by a cancel request"))

    async def _watch_verdicts(self) -> None:
        """Let deploys go on, or end, of which somebody decided, here or at another provider."""
        async for deploy_id in self._store.approvals.watch():
            self._runner.on_verdict(deploy_id)

    async def _housekeeping(self) -> None:
        await self._store.purge_removed(TOMBSTONE_AGE)
        known = self._holding.slugs
        living = frozenset(one.slug for one in await self._store.previews())
        self._holding.forget(known - living)
        await self._platform.hold_only(self._holding.slugs | living)
        await self._source.tidy(GIT_IDLE_SECONDS)

    def _emit(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        """Something happened to a deploy: whoever opens the preview's URL sees how far it is, too."""
        if kind is EventType.PHASE_STARTED and record.slug:
            self._holding.on_phase(record.slug, record.phase)
        self._telemetry.emit(record, kind, data)

    def _own_parts(self) -> list[PartStatus]:
        """The provider itself and the bus, as `/readyz` shows them."""
        bus, stopping, policy = self._nc.is_connected, self._stopping, self._ctx.policy
        return [
            PartStatus("requests", not stopping, "stopping: others take them" if stopping else "taken"),
            PartStatus("bus", bus, "connected" if bus else "no connection; tried again and again", "" if bus else BUS),
            PartStatus("store", True, "JetStream" if self._jetstream else MEMORY_ONLY),
            self._leases.part(),
            PartStatus("policy", True, policy.detail, POLICY if policy.problem is not None else ""),
        ]

    def _present(self) -> Present:
        line = self._ctx.line
        stages = line.stages()
        return Present(
            waiting={"deploy": stages[Stage.WAITING], "build": stages[Stage.BUILD_WAITING]},
            builds=line.own_stages()[Stage.BUILDING],
            leases=self._runner.under_way,
            providers=self._leases.providers,
            previews=self._keeper.states(),
            held_up=self._runner.held_up,
            messages=self._events.waiting,
            connected=self._nc.is_connected,
        )
