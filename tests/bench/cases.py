"""The measurements: each takes a running world and returns rows of the table."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from provider import names
from provider.client import Deployed
from provider.demo.git_server import GitServer
from provider.demo.sample_app import sample_files
from provider.demo.world import World
from tests.bench.bare import Bare, BareRun
from tests.bench.process import resident, start_to_ready
from tests.bench.report import Row, median, p99

REPO = "bench/app"
SLUG = "app"
IDLE_SECONDS = 3.0
SETTLE_SECONDS = 1.0
"""Between two deploys: until the next builder waits, and the last one has tidied up."""
STARTS = 7
CHECKS = 3
"""Requests by which a deploy is verified: one to the candidate, two in a row to the public URL."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    pairs: int
    repeats: int
    at_once: int
    rounds: int


FULL = Size(pairs=9, repeats=40, at_once=20, rounds=2)
QUICK = Size(pairs=3, repeats=10, at_once=5, rounds=1)


@dataclass(frozen=True, slots=True)
class Run:
    """One deploy by the provider, in seconds: the caller's wall clock, and what of it was the engine's."""

    total: float
    phases: dict[str, float]
    engine: dict[str, float]
    git: float

    def own(self, app: float) -> float:
        """What is left when the engine's time and that of the app are taken off."""
        return self.total - sum(self.engine.values()) - app

    def own_phases(self, app: float) -> dict[str, float]:
        """The same by phase; `rest` is what lies around the phases, from the asker's call to its answer."""
        own = {name: seconds for name, seconds in self.phases.items() if name != "total"}
        rest = self.total - sum(own.values())
        run = self.engine["run"]
        own["build"] -= sum(self.engine.values()) - run
        own["deploy"] -= run
        own["rollout"] -= app
        return {**own, "rest": rest}


class GitClock:
    """How long a git host works: from each request's arrival to the end of its answer."""

    def __init__(self, git: GitServer) -> None:
        self.seconds = 0.0
        self._respond = git.respond
        git.respond = self._timed  # type: ignore[method-assign]

    async def _timed(self, request: web.Request) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            return await self._respond(request)
        finally:
            self.seconds += time.perf_counter() - began


class Bench:
    """The measurements of one world."""

    def __init__(self, world: World, size: Size) -> None:
        self._world = world
        self._size = size
        self._bare = Bare(world.stack, world.base_image)
        self._git = GitClock(world.git)
        self._texts = (f"Change {number}" for number in itertools.count())

    def cases(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """Every measurement by its name."""
        return {"start": self.start, "push": self.push, "same": self.same, "parallel": self.parallel}

    # ----------------------------------------------------------------- push → verified

    async def push(self) -> list[Row]:
        """Push → verified, in pairs with the bare calls."""
        await self._deploy_new(SLUG)
        await self._bare.run(self._files("bare"))
        pairs: list[tuple[Run, BareRun]] = []
        for number in range(self._size.pairs):
            await asyncio.sleep(SETTLE_SECONDS)
            if number % 2:
                bare = await self._bare.run(self._files("bare"))
                await asyncio.sleep(SETTLE_SECONDS)
                pairs.append((await self._deploy_new(SLUG), bare))
            else:
                run = await self._deploy_new(SLUG)
                await asyncio.sleep(SETTLE_SECONDS)
                pairs.append((run, await self._bare.run(self._files("bare"))))
        return [_ratio_row(pairs), _own_row(pairs)]

    async def _deploy_new(self, slug: str) -> Run:
        """Commit a change, then measure its deploy."""
        sha = await self._world.commit(REPO, self._files(slug))
        git = self._git.seconds
        deployed, seconds = await self._deploy(REPO)
        assert (deployed.commit_sha, deployed.built) == (sha, True)
        engine = await self._engine_seconds(deployed)
        return Run(seconds, deployed.timings, engine, self._git.seconds - git)

    async def _engine_seconds(self, deployed: Deployed) -> dict[str, float]:
        status = await self._world.client.status(deployed.slug)
        generation = status.reply["last_good"]["generation"]
        created, started = await self._bare.started(names.container(deployed.slug, generation))
        return {**await asyncio.to_thread(self._build_steps, deployed.deploy_id), "run": started - created}

    def _build_steps(self, deploy_id: str) -> dict[str, float]:
        """Seconds of the builder's podman processes, from the provider's log."""
        for line in reversed(self._world.provider.log.read_text().splitlines()):
            if "build.finished" in line and deploy_id in line:
                return dict(json.loads(line)["timings"])
        raise LookupError(f"the provider's log names no build of {deploy_id}")

    # ------------------------------------------------------------------ the same again

    async def same(self) -> list[Row]:
        """The commit that serves already, asked for again."""
        sha = await self._world.commit(REPO, self._files(SLUG))
        await self._deploy(REPO)
        times: list[float] = []
        phases: list[dict[str, float]] = []
        for _ in range(self._size.repeats):
            deployed, seconds = await self._deploy(REPO, sha)
            assert deployed.built is False
            times.append(1000 * seconds)
            phases.append(deployed.timings)
        detail = f"p50 of {len(times)}; p99 {p99(times):.0f} ms"
        return [Row("the same commit again", median(times), 300, "ms", detail, tuple(times), _phases(phases))]

    # --------------------------------------------------------------------- many at once

    async def parallel(self) -> list[Row]:
        """As many deploys of different slugs at once as bare pipelines at once, in alternating order."""
        ours: list[float] = []
        bare: list[float] = []
        for number in range(self._size.rounds):
            if number % 2:
                bare.append(await self._bare_at_once())
            ours.append(await self._deploys_at_once(number))
            if not number % 2:
                bare.append(await self._bare_at_once())
        count = self._size.at_once
        detail = f"{median(ours):.1f} s, bare {median(bare):.1f} s"
        ratios = tuple(one / other for one, other in zip(ours, bare, strict=True))
        return [Row(f"{count} slugs at once", median(ratios), 1.2, "ratio", detail, ratios)]

    async def _deploys_at_once(self, number: int) -> float:
        repos = [f"bench/many-{number}-{index}" for index in range(self._size.at_once)]
        for repo in repos:
            await self._world.commit(repo, self._files(repo.partition("/")[2]))
        began = time.perf_counter()
        await asyncio.gather(*(self._deploy(repo) for repo in repos))
        seconds = time.perf_counter() - began
        for repo in repos:
            await self._world.client.teardown(repo.partition("/")[2])
        return seconds

    async def _bare_at_once(self) -> float:
        runs = [self._files("bare") for _ in range(self._size.at_once)]
        return max(run.total for run in await asyncio.gather(*map(self._bare.run, runs)))

    # --------------------------------------------------------------- start, and at rest

    async def start(self) -> list[Row]:
        """From the start of the process to its first answer, and the memory that it then holds."""
        provider = self._world.provider
        seconds = [await start_to_ready(provider, self._world.client) for _ in range(STARTS)]
        await asyncio.sleep(IDLE_SECONDS)
        memory = resident(int(provider.pid or 0))
        detail = f"p50 of {len(seconds)}; slowest {max(seconds):.2f} s"
        return [
            Row("start to ready", median(seconds), 1.0, "s", detail, tuple(seconds)),
            Row("idle memory", sum(memory.values()), 90, "MB", _listed(memory)),
        ]

    # ---------------------------------------------------------------------------- parts

    def _files(self, slug: str) -> dict[str, str]:
        return sample_files(self._world.base_image, commit_message=f"{next(self._texts)} of {slug}", name=slug)

    async def _deploy(self, repo: str, sha: str | None = None) -> tuple[Deployed, float]:
        began = time.perf_counter()
        deployed = await self._world.client.deploy(
            repo, "main", commit_sha=sha, installation_id=self._world.installation_id
        )
        return deployed, time.perf_counter() - began


def _ratio_row(pairs: list[tuple[Run, BareRun]]) -> Row:
    ratios = tuple(run.total / bare.total for run, bare in pairs)
    ours, bare = median([run.total for run, _ in pairs]), median([bare.total for _, bare in pairs])
    detail = f"median of {len(pairs)} pairs; {ours * 1000:.0f} ms, bare {bare * 1000:.0f} ms"
    steps = {
        f"bare {step}": 1000 * median([getattr(bare, step) for _, bare in pairs])
        for step in ("build", "push", "run", "app")
    }
    engine = {
        f"our {step}": 1000 * median([run.engine.get(step, 0.0) for run, _ in pairs])
        for step in ("build", "push", "pull", "run")
    }
    return Row("push → verified / bare engine", median(ratios), 1.5, "ratio", detail, ratios, steps | engine)


def _own_row(pairs: list[tuple[Run, BareRun]]) -> Row:
    app = median([bare.app for _, bare in pairs])
    own = tuple(1000 * run.own(app) for run, _ in pairs)
    parts = _phases([run.own_phases(app) for run, _ in pairs])
    git = 1000 * median([run.git for run, _ in pairs])
    answers = 1000 * CHECKS * median([bare.answer for _, bare in pairs])
    detail = f"p50; p99 {p99(own):.0f} ms; of it the git host {git:.0f}, the app's answers to checks {answers:.0f}"
    of_it = {"of it the git host": git, "of it the app": answers}
    return Row("the provider's own share", median(own), 80, "ms", detail, own, parts | of_it)


def _phases(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: 1000 * median([run.get(name, 0.0) for run in runs]) for name in runs[0]}


def _listed(memory: dict[str, float]) -> str:
    if len(memory) == 1:
        return "resident, 3 s after the start"
    return " + ".join(f"{megabytes:.0f} {name.split()[0]}" for name, megabytes in memory.items())
