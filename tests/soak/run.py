"""One soak: its size, its course, its verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.soak.asking import Asking
from tests.soak.callers import Callers
from tests.soak.chaos import Chaos
from tests.soak.claims import Court
from tests.soak.result import Result
from tests.soak.rivals import Rivals
from tests.soak.verdict import counts, leaks, settled
from tests.soak.world import soak_world

CONTESTED = 4
"""One preview in so many has two sessions that race for it."""


@dataclass(frozen=True)
class Size:
    """How much: `kills` are signals to providers; pauses are the mean seconds between two of a kind."""

    providers: int = 3
    deploys: int = 500
    previews: int = 60
    at_once: int = 12
    kills: int = 200
    kill_pause: float = 1.5
    bus_restarts: int = 10
    bus_pause: float = 30.0
    api_pause: float = 6.0


SHORT = Size(
    providers=2,
    deploys=24,
    previews=6,
    at_once=6,
    kills=5,
    kill_pause=2.0,
    bus_restarts=1,
    bus_pause=5.0,
    api_pause=3.0,
)


async def soak(folder: Path, seed: int, size: Size, say: Callable[[str], None]) -> Result:
    """Everything goes wrong until every caller has its answers; then it is looked at what is left."""
    began = time.monotonic()
    dice = random.Random(seed)
    async with soak_world(folder, size.providers) as world:
        say(f"{size.providers} providers are up after {time.monotonic() - began:.0f} s")
        asking = Asking(world.nc, world.subjects, random.Random(dice.random()))
        callers = Callers(world, random.Random(dice.random()), asking)
        rivals = Rivals(callers, random.Random(dice.random()), Court())
        chaos = Chaos(world, random.Random(dice.random()))
        slugs = [f"p{number}" for number in range(size.previews)]
        trouble = [
            asyncio.create_task(chaos.signals(size.kills, size.kill_pause), name="signals"),
            asyncio.create_task(chaos.bus(size.bus_restarts, size.bus_pause), name="bus"),
        ]
        faults = asyncio.create_task(chaos.api(size.api_pause), name="api")
        calling = asyncio.create_task(_call(callers, rivals, slugs, size, trouble), name="callers")
        while not calling.done():
            await asyncio.wait({calling}, timeout=15)
            say(_progress(callers, chaos))
        await calling
        faults.cancel()
        ended = await asyncio.gather(*trouble, faults, return_exceptions=True)
        await chaos.end()
        for deploy in callers.deploys:
            await callers.again(deploy)
        wrong = await settled(world, slugs)
        leaked = await leaks(world)
        found = counts(world, callers, rivals.court, wrong, leaked)
        failed = [repr(one) for one in ended if isinstance(one, Exception)]
        seconds = time.monotonic() - began
        return Result(
            seed=seed,
            seconds=seconds,
            chaos=chaos.done,
            answers=callers.told(),
            claims=rivals.court.told(),
            builds=len(world.ledger.builds),
            found=found | {"the soak itself": failed},
        )


async def _call(
    callers: Callers, rivals: Rivals, slugs: list[str], size: Size, trouble: list[asyncio.Task[None]]
) -> None:
    """Some previews at a time; each gets its share of the deploys, and more while there is trouble to come."""
    at_once = asyncio.Semaphore(size.at_once)

    async def use(slug: str, budget: int) -> None:
        async with at_once:
            await (rivals if slugs.index(slug) % CONTESTED == 0 else callers).use(slug, budget)

    share, rest = divmod(size.deploys, len(slugs))
    await asyncio.gather(*(use(slug, share + (number < rest)) for number, slug in enumerate(slugs)))
    while not all(one.done() for one in trouble):
        await asyncio.gather(*(use(slug, 1) for slug in slugs[: size.at_once]))


def _progress(callers: Callers, chaos: Chaos) -> str:
    answered = sum(bool(one.answers) for one in callers.deploys)
    signals = chaos.done["SIGKILL"] + chaos.done["SIGSTOP"]
    return f"{answered} of {len(callers.deploys)} deploys answered, {signals} signals sent"
