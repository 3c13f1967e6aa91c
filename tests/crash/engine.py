"""Crash points on the container engine: real processes, really killed; some of the points, one life after the other.

The scenarios are those of the stand-in. One provider has the engine, so there is one chain at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from nats.aio.client import Client

from provider.bus.subjects import Subjects
from provider.demo.processes import Server
from provider.demo.stack import PREVIEW_DOMAIN
from provider.demo.world import World, local_world
from provider.store import Store, open_store
from tests.crash.arena import APPS, REPO, Arena, Chain
from tests.crash.engine_provider import ARMED, FOLDER
from tests.crash.every import Findings
from tests.crash.gate import Point, points
from tests.crash.mortal import Mortal
from tests.crash.scenarios import HELD, SCENARIOS, play
from tests.e2e.helpers import builds_below, visitor
from tests.soak.engine_judge import EngineJudge, engine_judge

TOLD = ("event", "x1.", "session", "stream")
LIVES, FEW_LIVES = 12, 2
"""So many chains, each with a death in every scenario: 60 points, or 10 in a thinned run."""


class RealGate:
    """Arms the point in a provider's process, and tells when that died; what `gate.Gate` is for one in this process."""

    numbers = itertools.count()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._effects = folder / "effects-none"
        self.died = asyncio.Event()

    @property
    def dead(self) -> bool:
        """Whether it died."""
        return self.died.is_set()

    @property
    def effects(self) -> list[str]:
        """What it did since it was armed."""
        return self._effects.read_text().splitlines() if self._effects.exists() else []

    def arm(self, point: Point | None) -> None:
        """Count from now on, and die there."""
        number = next(self.numbers)
        self._effects = self._folder / f"effects-{number}"
        armed = self._folder / f"{ARMED}.new"
        armed.write_text(json.dumps({"number": number, "point": str(point) if point else None}))
        armed.rename(self._folder / ARMED)

    def disarm(self) -> None:
        """Count no longer."""
        (self._folder / ARMED).unlink(missing_ok=True)


class RealLife:
    """One process; what `mortal.Mortal` is for one in this process."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.gate = RealGate(folder)
        self.ready = False
        self._server = server
        self._begin = server.log.stat().st_size if server.log.exists() else 0
        self._waiting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns when it takes requests."""
        self.gate.disarm()
        await self._server.start()
        self.ready = True
        self._waiting = asyncio.create_task(self._death())

    async def kill(self) -> None:
        """It is dead already."""
        await self._server.kill()

    @property
    def log(self) -> deque[str]:
        """Its last lines."""
        return deque(self._lines(), maxlen=12)

    @property
    def errors(self) -> list[str]:
        """What it logged as an error; a copy."""
        entries = [json.loads(line) for line in self._lines() if line.startswith("{") and line.endswith("}")]
        return [str(one) for one in entries if one.get("level") in {"error", "exception", "critical"}]

    async def _death(self) -> None:
        await self._server.died()
        self.gate.died.set()

    def _lines(self) -> list[str]:
        with self._server.log.open("rb") as log:
            log.seek(self._begin)
            return log.read().decode(errors="replace").splitlines()


@dataclass
class EngineArena:
    """The local stack with a mortal provider, and who looks at it."""

    world: World
    nc: Client
    store: Store
    judge: EngineJudge
    commits: dict[str, str]
    folder: Path
    life: RealLife | None = None


@dataclass
class EngineChain(Chain):
    """A preview on the engine; its providers are real processes."""

    async def live(self) -> Mortal:
        """Start the next provider."""
        at = self.at
        at.life = RealLife(at.world.provider, at.folder)
        self.provider = cast(Mortal, at.life)
        self.lives += 1
        await at.life.start()
        return self.provider

    @property
    def at(self) -> EngineArena:
        """Where it is."""
        return cast(EngineArena, self.arena)

    def is_building(self) -> bool:
        """Whether a build of it runs its step."""
        logs = [folder / "log" for folder in builds_below(self.at.world.stack.folder)]
        return any("begun" in log.read_text().splitlines() for log in logs if log.exists())

    async def judged(self) -> list[str]:
        """What is wrong with it now."""
        judge = self.at.judge
        found = [*await judge.violations(self.slug), *await judge.left_over([self.slug])]
        commits = [commit for commit, _ in await judge.images(self.slug)]
        return found + [f"built twice: {one}" for one in sorted(set(commits)) if commits.count(one) > 1]


@asynccontextmanager
async def engine_arena(folder: Path) -> AsyncIterator[EngineArena]:
    """Start everything but the mortal provider."""
    settings = {
        "VERIFY_TIMEOUT": "10",
        "SWEEP_SECONDS": "0.5",
        "SWEEP_GRACE": "0.5",
        FOLDER: str(folder),
    }
    async with local_world(environment=settings) as world, visitor(world.stack) as guest:
        await world.provider.stop()
        world.provider.argv = [*world.provider.argv[:2], "tests.crash.engine_provider"]
        nc = Client()
        await nc.connect(world.stack.nats.address)
        try:
            store = await open_store(nc, Subjects("x1.provider.preview").bucket_prefix, PREVIEW_DOMAIN)
            commits = {
                name: await world.commit(REPO, app.files("named-by-the-request", world.base_image), name)
                for name, app in APPS.items()
            }
            bodies = {commits[name]: app.body for name, app in APPS.items()}
            async with engine_judge(world.stack, store, guest, bodies) as judge:
                yield EngineArena(world, nc, store, judge, commits, folder)
        finally:
            await nc.close()


async def some_points(at: EngineArena, lives: int) -> Findings:
    """Kill a provider at so many points of each scenario, on either side."""
    findings, loop = Findings(), asyncio.get_running_loop()
    began = loop.time()
    recorded = {name: [] for name in SCENARIOS if name not in HELD}  # type: dict[str, list[str]]
    for life in range(lives + 1):
        chain = EngineChain(cast(Arena, at), f"e{life}", Subjects("x1.provider.preview"), at.store, {})
        chain.provider = cast(Any, at.life)
        for name in recorded:
            point = _chosen(recorded[name], life - 1, lives) if life else None
            run = await play(chain, name, point, chain.judged)
            recorded[name] = recorded[name] or run.effects
            findings.take(run)
    findings.seconds = loop.time() - began
    return findings


def _chosen(effects: list[str], life: int, lives: int) -> Point | None:
    """Another one each time, spread over the scenario; what is only told is left out."""
    found = [one for one in points(effects) if not one.effect.startswith(TOLD)]
    return found[(2 * life + 1) * len(found) // (2 * lives)] if found else None
