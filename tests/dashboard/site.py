"""A dashboard over a store in memory, with as many made-up previews as wanted, served by the provider's HTTP server.

Its platform runs nothing but says what an engine says. Whatever a person, an app or a git host may have written comes
from `Words`, so that a test can put anything there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from provider.background import ended, forever
from provider.dashboard import Dashboard
from provider.errors import Code, Whose
from provider.http_server import HttpServer
from provider.introspection import Introspection
from provider.masking import Masker
from provider.models import (
    Check,
    Claim,
    DeployRecord,
    Failure,
    Newest,
    Owner,
    PastDeploy,
    Phase,
    PhaseTiming,
    PreviewRecord,
    PreviewState,
    Report,
    Revision,
    StoredRequest,
    now,
)
from provider.platforms.looks import ContainerLook, EventLook, Lines, LogQuery, PodLook
from provider.settings import Settings
from provider.store import Store, memory_store

SHA = "3f9c2ab5d0e14c7f9a6b8d21e05c47aa19be3d70"
STATES = (PreviewState.READY,) * 15 + (PreviewState.DEGRADED, PreviewState.FAILED, PreviewState.PROVISIONING)
REPOSITORIES = ("acme/shop", "acme/checkout", "acme/docs", "northwind/api", "northwind/warehouse-scanner")
BRANCHES = ("main", "feature/basket-totals", "fix/1482-login-loop", "renovate/pydantic-2.x", "spike/new-ingress")


@dataclass(frozen=True)
class Words:
    """What others say, wherever they can say something."""

    text: str = ""

    def __call__(self, usual: str) -> str:
        """What stands in place of the usual text."""
        return self.text or usual


@dataclass
class Engine:
    """What the platform says."""

    words: Words = field(default_factory=Words)
    app_lines: list[str] = field(default_factory=list)
    build_lines: list[str] = field(default_factory=list)
    since: datetime = field(default_factory=now)

    @property
    def inspector(self) -> Engine:
        """It looks at itself."""
        return self

    async def secret_values(self, staged: str, bundles: object) -> frozenset[str]:
        """It has none."""
        return frozenset()

    async def pods(self, slug: str) -> tuple[PodLook, ...]:
        """One container."""
        look = ContainerLook(
            self.words("app"), self.words("shop:1"), self.words("running"), True, 0, self.words(""), self.words("")
        )
        return (PodLook(self.words(f"{slug}-g3"), self.words("running"), self.since.isoformat(), containers=(look,)),)

    async def events(self, slug: str) -> tuple[EventLook, ...]:
        """That it was started."""
        at = self.since.isoformat()
        return tuple(
            EventLook(at, self.words("container"), self.words(f"{slug}-g3"), self.words(what), self.words(""))
            for what in ("create", "start")
        )

    async def app_log(self, slug: str, query: LogQuery) -> Lines:
        """What the app said."""
        yield [self.words(line) for line in self.app_lines[-(query.tail or 1) :]]

    def build_log(self, slug: str, build_inputs: str, job_name: str, *, follow: bool) -> Lines | None:
        """What the build said."""
        return self._build()

    async def _build(self) -> Lines:
        yield [self.words(line) for line in self.build_lines]


class NoSecrets:
    """The part of a logbook that introspection uses, where nothing is secret and nothing kept."""

    def masking(self, deploy_id: str, values: frozenset[str] | None) -> Callable[[], Masker]:
        """It masks nothing."""
        return Masker

    async def kept(self, slug: str, build_inputs: str) -> None:
        """There is none."""


@dataclass
class Context:
    """What introspection uses of a context."""

    platform: Engine
    store: Store
    logbook: NoSecrets = field(default_factory=NoSecrets)


@dataclass
class Site:
    """A dashboard that runs."""

    url: str
    store: Store
    engine: Engine
    start: Callable[[], Any]
    stop: Callable[[], Any]
    running: list[Dashboard] = field(default_factory=list)

    async def put(self, records: Iterable[PreviewRecord]) -> None:
        """Store previews as they are here."""
        for record in records:
            stored = await self.store.change_preview(record.slug, lambda _, record=record: record)  # type: ignore[misc]
            for dashboard in self.running:
                dashboard.on_preview(stored)  # the watch tells it the same, a little later


@asynccontextmanager
async def site(
    previews: Iterable[PreviewRecord] = (), *, engine: Engine | None = None, port: int = 0, **settings: Any
) -> AsyncIterator[Site]:
    """Serve a dashboard of these previews; `stop` and `start` are a provider that is restarted on the same port."""
    configured = Settings.model_validate(
        {"http_address": f"127.0.0.1:{port}", "platform_id": "preview.acme.dev"} | settings
    )
    store, engine = memory_store(configured.platform_id), engine or Engine()
    parts: list[Any] = []
    running: list[Dashboard] = []

    async def start() -> str:
        context = cast(Any, Context(engine, store))
        looks = Introspection(ctx=context, status=cast(Any, None), streams=cast(Any, None))
        dashboard = Dashboard(settings=configured, store=store, introspection=looks)
        for record in await store.previews():
            dashboard.on_preview(record)

        async def watch() -> None:
            async for record in store.watch_previews():
                dashboard.on_preview(record)

        task = asyncio.create_task(forever(watch, 0))
        server = HttpServer(configured.http_address, dashboard.routes())
        parts[:], running[:] = [task, server], [dashboard]
        return await server.start()

    async def stop() -> None:
        task, server = parts
        await ended([task])
        await running.pop().close()
        await server.close()

    made = Site("", store, engine, start, stop, running)
    await made.put(previews)
    made.url = f"http://{await start()}"
    try:
        yield made
    finally:
        await stop()


# ------------------------------------------------------------------------------ records


def preview(
    slug: str, number: int = 0, state: PreviewState = PreviewState.READY, words: Words = Words()
) -> PreviewRecord:
    """A made-up preview."""
    at = now() - timedelta(minutes=7 * number + 3)
    served = state in (PreviewState.READY, PreviewState.DEGRADED)
    claim = Claim(session_id=words("session-4821"), expires_at=at + timedelta(hours=6)) if number % 9 == 4 else None
    return PreviewRecord(
        platform_id="preview.acme.dev",
        slug=slug,
        repo_full_name=words(REPOSITORIES[number % 5]),
        branch=words(BRANCHES[number % 4 if number % 7 else 4]),
        url=words(f"https://{slug}.preview.acme.dev"),
        state=state,
        newest=Newest(order=100_000 - number, deploy_id=f"d-{slug}"),
        current=revision(at, words) if served else None,
        last_good=revision(at, words) if served else None,
        failure=failure(words) if state in (PreviewState.DEGRADED, PreviewState.FAILED) else None,
        claim=claim,
        session_id=words("session-4821"),
        alias_hosts=(words.text,) if words.text else (),
        history=tuple(past(index, at - timedelta(hours=index), words) for index in range(8)),
        last_access=at,
        created_at=at - timedelta(hours=number % 50),
        updated_at=at,
    )


def revision(at: datetime, words: Words) -> Revision:
    """What serves."""
    return Revision(
        generation=3, deploy_id="d-1", commit_sha=words(SHA), branch=words("main"), image=words("shop:1"),
        digest="sha256:0", inputs="", manifests=(), made_at=at,
    )  # fmt: skip


def failure(words: Words) -> Failure:
    """Why the newest deploy failed."""
    return Failure(
        code=Code.KANIKO_BUILD_FAILED,
        message=words("The build failed at line 7 of ./Dockerfile: RUN npm ci exited with 1."),
        phase=Phase.BUILD,
        reason=words("RunFailed"),
        hint=words(
            "package-lock.json names left-pad 1.3.1, which package.json does not; run npm install and commit it."
        ),
        whose=Whose.USER,
        evidence=(words("Dockerfile:7: RUN npm ci"), words("exit status 1")),
        log_tail=tuple(
            words(line)
            for line in (
                "STEP 7/9: RUN npm ci",
                "npm ERR! code EUSAGE",
                "npm ERR! Missing: left-pad@1.3.1 from lock file",
            )
        ),
    )


def timings(at: datetime, build: float, until: Phase = Phase.VERIFY) -> tuple[PhaseTiming, ...]:
    """How long each phase took, up to one."""
    took = {
        Phase.RESOLVE: 0.31,
        Phase.ADMIT: 0.04,
        Phase.BUILD: build,
        Phase.DEPLOY: 0.62,
        Phase.ROLLOUT: 1.9,
        Phase.VERIFY: 0.8,
    }
    found = []
    for phase, seconds in took.items():
        found.append(PhaseTiming(phase=phase, started_at=at, seconds=seconds))
        at += timedelta(seconds=seconds)
        if phase is until:
            break
    return tuple(found)


def past(index: int, at: datetime, words: Words) -> PastDeploy:
    """A deploy of the past."""
    failed = index in (1, 4)
    took = timings(at, 0.02 if index == 2 else 6.0 + 5.5 * (index % 3), Phase.BUILD if failed else Phase.VERIFY)
    return PastDeploy(
        deploy_id=f"d-{index}",
        commit_sha=words(f"{index}{SHA[1:]}"),
        branch=words("main"),
        created_at=at,
        built=index != 2,
        seconds={one.phase: one.seconds for one in took if one.seconds is not None},
        code=Code.KANIKO_BUILD_FAILED if failed else None,
        reason=words("RunFailed") if failed else None,
    )


def deploy(one: PreviewRecord, words: Words = Words()) -> DeployRecord:
    """The newest deploy of a made-up preview, in the state that it has."""
    at, under_way = one.updated_at, one.state is PreviewState.PROVISIONING
    checks = (
        Check(name=words("GET /"), url=words(one.url), ok=True, status=200, attempts=2),
        Check(
            name=words("GET /api/health"), url=words(one.url), ok=one.failure is None, status=200,
            expected=words("200"), got=words("503: upstream connect error"), attempts=4,
        ),
    )  # fmt: skip
    return DeployRecord(
        platform_id=one.platform_id,
        deploy_id=one.newest.deploy_id,
        order=one.newest.order,
        owner=Owner(instance="p-1", epoch=1),
        fingerprint="",
        request=StoredRequest.model_construct(repo_full_name=one.repo_full_name, branch=one.branch),
        created_at=at,
        deadline=at + timedelta(minutes=19),
        phase=Phase.BUILD if under_way or one.failure else Phase.PUBLISH,
        timings=timings(at, 9.4, Phase.ADMIT if under_way else Phase.BUILD if one.failure else Phase.VERIFY),
        slug=one.slug,
        commit_sha=words(SHA),
        build_inputs="abc",
        warnings=(words("metadata.nmae: unknown field; did you mean name?"),),
        failure=one.failure,
        report=None if under_way else Report(ok=one.failure is None, deploy_id=one.newest.deploy_id, checks=checks),
    )


def many(count: int) -> list[PreviewRecord]:
    """So many previews, of all kinds."""
    names = ("shop", "checkout", "docs", "api", "scanner")
    return [
        preview(f"{names[number % 5]}-{number:04d}", number, STATES[number % len(STATES)]) for number in range(count)
    ]
