"""The soak on this machine's container engine: one provider; it, Podman's service, Caddy and the bus are killed.

Smaller than the one on the stand-in, since everything is real: the builds, the containers, the traffic.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client

from provider.bus.subjects import Subjects
from provider.demo.processes import Server
from provider.demo.stack import PREVIEW_DOMAIN
from provider.demo.world import World, local_world
from provider.store import Store, open_store
from tests.e2e.helpers import Visitor, visitor
from tests.soak.asking import Asking
from tests.soak.callers import Callers
from tests.soak.claims import Court
from tests.soak.engine_judge import EngineJudge, engine_judge
from tests.soak.result import Result
from tests.soak.rivals import Rivals
from tests.soak.verdict import SETTLE_SECONDS, STOP_SECONDS, sorted_out, unhandled
from tests.soak.world import APPS, REPO, quiet, see_births
from tests.zygote import Forked


@dataclass(frozen=True)
class EngineSize:
    """How much: how often each is killed; pauses are the mean seconds between two of a kind."""

    deploys: int = 30
    previews: int = 5
    kills: int = 10
    kill_pause: float = 5.0
    restarts: int = 3
    restart_pause: float = 14.0


SHORT_ENGINE = EngineSize(deploys=8, previews=2, kills=2, kill_pause=3.0, restarts=1, restart_pause=4.0)


@dataclass
class EngineWorld:
    """The local stack with a provider, and who looks at it; see `callers.Where`."""

    world: World
    nc: Client
    store: Store
    subjects: Subjects
    guest: Visitor
    commits: dict[str, str]
    judge: EngineJudge
    born: dict[str, float] = field(default_factory=dict)


@asynccontextmanager
async def engine_world() -> AsyncIterator[EngineWorld]:
    """Start everything."""
    settings = {"VERIFY_TIMEOUT": "20", "SWEEP_SECONDS": "3", "SWEEP_GRACE": "6"}
    async with local_world(environment=settings, kind=Forked) as world, visitor(world.stack) as guest:
        nc = Client()
        await nc.connect(world.stack.nats.address, error_cb=quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.1)  # type: ignore[arg-type]
        try:
            subjects = Subjects("x1.provider.preview")
            store = await open_store(nc, subjects.bucket_prefix, PREVIEW_DOMAIN)
            commits = {
                name: await world.commit(REPO, app.files("named-by-the-request", world.base_image), name)
                for name, app in APPS.items()
            }
            bodies = {sha: APPS[name].body for name, sha in commits.items()}
            async with engine_judge(world.stack, store, guest, bodies) as judge:
                made = EngineWorld(world, nc, store, subjects, guest, commits, judge)
                await see_births(nc, subjects, made.born)
                yield made
        finally:
            await nc.close()


@dataclass
class EngineChaos:
    """Each of the servers is killed and started again, a number of times; `done` counts it."""

    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    async def deaths(self, server: Server, number: int, pause: float) -> None:
        """Kill it so often, with about so many seconds in between."""
        for _ in range(number):
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            await server.kill()
            self.done[f"{server.name} killed"] += 1
            await asyncio.sleep(self.random.choice((0.0, 0.0, 1.5)))
            await server.start()


async def engine_soak(folder: Path, seed: int, size: EngineSize, say: Callable[[str], None]) -> Result:
    """Everything dies until every caller has its answers; then it is looked at what is left."""
    began, dice = time.monotonic(), random.Random(seed)
    async with engine_world() as at:
        say(f"everything is up after {time.monotonic() - began:.0f} s")
        callers = Callers(at, dice, Asking(at.nc, at.subjects, dice))
        rivals, chaos = Rivals(callers, dice, Court()), EngineChaos(dice)
        slugs = [f"p{number}" for number in range(size.previews)]
        stack = at.world.stack
        trouble = [asyncio.create_task(chaos.deaths(at.world.provider, size.kills, size.kill_pause))]
        trouble += [
            asyncio.create_task(chaos.deaths(server, size.restarts, size.restart_pause))
            for server in (stack.nats, stack.engine, stack.caddy)
        ]
        calling = asyncio.create_task(_call(callers, rivals, slugs, size, trouble))
        while not calling.done():
            await asyncio.wait({calling}, timeout=15)
            say(f"{sum(bool(one.answers) for one in callers.deploys)} of {len(callers.deploys)} deploys answered")
        await calling
        await asyncio.gather(*trouble)
        for deploy in callers.deploys:
            await callers.again(deploy)
        wrong = await _settled(at.judge, slugs)
        wrong += await _rebuilt(at, callers, slugs)
        wrong += await _ended(at)
        (folder / "provider.log").write_bytes(at.world.provider.log.read_bytes())
        return Result(
            seed=seed,
            seconds=time.monotonic() - began,
            chaos=chaos.done,
            answers=callers.told(),
            claims=rivals.court.told(),
            builds=sum([len(await at.judge.images(slug)) for slug in slugs]),
            found=sorted_out(wrong, callers, rivals.court, [*unhandled(at.world.provider)]),
        )


async def _call(
    callers: Callers, rivals: Rivals, slugs: list[str], size: EngineSize, trouble: list[asyncio.Task[None]]
) -> None:
    """The first preview has two sessions that race for it."""
    share = size.deploys // len(slugs)
    await asyncio.gather(rivals.use(slugs[0], share), *(callers.use(slug, share) for slug in slugs[1:]))
    while not all(one.done() for one in trouble):
        await callers.use(slugs[-1], 1)


async def _settled(judge: EngineJudge, slugs: list[str]) -> list[str]:
    """What is still wrong when everything has had its time."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        wrong = [f"{slug}: {one}" for slug in slugs for one in await judge.violations(slug)]
        wrong += await judge.left_over(slugs)
        if not wrong or time.monotonic() > until:
            return wrong
        await asyncio.sleep(0.5)


async def _rebuilt(at: EngineWorld, callers: Callers, slugs: list[str]) -> list[str]:
    """Images of one commit beyond the first, where the preview was not torn down in between."""
    found = []
    for slug in slugs:
        images = await at.judge.images(slug)
        for (commit, before), (again, later) in itertools.pairwise(images):
            # An image's time has whole seconds.
            torn = any(one.sent <= later + 1 and one.over >= before for one in callers.teardowns.get(slug, []))
            if commit == again and not torn:
                found.append(f"built twice: {commit[:8]} of {slug}, at {before:.0f} and {later:.0f}")
    return found


async def _ended(at: EngineWorld) -> list[str]:
    """How the provider stops, when it is asked to."""
    began, provider = time.monotonic(), at.world.provider
    await provider.stop()
    status, seconds = await provider.died(), time.monotonic() - began
    return [f"leaked: it ended with {status} after {seconds:.1f} s"] if status != 0 or seconds > STOP_SECONDS else []
