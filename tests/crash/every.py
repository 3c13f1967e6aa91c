"""Goes through every crash point of one side, one chain of scenarios after the other.

A first chain without a death names the effects. Then each chain is a preview's whole life, with one death in each
scenario; several chains run at once, since most of their time is waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.crash.arena import Arena, Chain
from tests.crash.asking import Run
from tests.crash.gate import Point, Side, points
from tests.crash.scenarios import SCENARIOS, judge_of, play

AT_ONCE = 3
NEEDED = ("first deploy", "redeploy", "teardown")
"""Scenarios that others build on: they are played without a death where no point of theirs is left."""
TOLD_AFTER = 20
KEPT, EVENTS_KEPT = 14, 60
"""In a thinned run, one effect in so many is a point, and one event: to lose an event loses nothing else."""


@dataclass
class Findings:
    """What came of it.

    Attributes:
        points: how many deaths there were, by scenario.
        missed: points that did not come in their run: effects whose number differs from run to run.
        problems: what did not hold, with its scenario and point.
    """

    points: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def take(self, run: Run) -> None:
        """Add one run."""
        where = f"{run.scenario}, {run.point or 'nobody dies'}"
        self.note(where, run.problems)
        if run.point is not None and run.reached:
            self.points[run.scenario] += 1
            if (done := sum(self.points.values())) % TOLD_AFTER == 0:
                print(f"{done} points, {len(self.problems)} problems", flush=True)
        elif run.point is not None:
            self.missed.append(where)

    def note(self, where: str, problems: Iterable[str]) -> None:
        """Add what did not hold there; it is told at once, for a whole run takes long."""
        told = [f"{where}: {problem}" for problem in problems]
        self.problems += told
        for line in told:
            print(line, flush=True)

    def __str__(self) -> str:
        each = ", ".join(f"{name} {number}" for name, number in self.points.items())
        total = sum(self.points.values())
        return f"{total} crash points in {self.seconds:.0f} s ({each}); {len(self.missed)} did not come"


async def every_point(arena: Arena, side: Side, *, thinned: bool) -> Findings:
    """Kill a provider at each point of that side."""
    findings, began = Findings(), time.monotonic()
    recorded = await _recorded(arena, findings)
    chosen = {name: _chosen(effects, side, thinned) for name, effects in recorded.items()}
    rounds = list(itertools.zip_longest(*chosen.values()))
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(deaths: tuple[Point | None, ...]) -> None:
        async with at_once:
            await _life(arena, dict(zip(chosen, deaths, strict=True)), findings)

    async with asyncio.TaskGroup() as group:
        for deaths in rounds:
            group.create_task(one(deaths))
    findings.seconds = time.monotonic() - began
    findings.problems += [f"unhandled: {error}" for error in arena.unhandled]
    if watches := arena.standin.api.metrics.watches:
        findings.problems.append(f"leaked: {watches} watches are open")
    return findings


async def _recorded(arena: Arena, findings: Findings) -> dict[str, list[str]]:
    chain, effects = await arena.chain(), {}
    for name in SCENARIOS:
        run = await play(chain, name, None)
        findings.take(run)
        effects[name] = run.effects
    await _end(chain, findings)
    return effects


async def _life(arena: Arena, deaths: dict[str, Point | None], findings: Findings) -> None:
    chain = await arena.chain()
    for name, point in deaths.items():
        if point is not None or name in NEEDED:
            findings.take(await play(chain, name, point))
    await _end(chain, findings)
    arena.forget_events(chain.slug)


async def _end(chain: Chain, findings: Findings) -> None:
    """What a death left without a record is swept; the last provider stops as it should, and nothing of it is left."""
    assert chain.provider is not None
    for _ in range(2):
        await chain.provider.chore("sweep")
    findings.note(f"{chain.slug}, after the sweep", judge_of(chain).staged(chain.names["platform_id"]))
    findings.note(f"leaked by {chain.slug}", await chain.provider.close())


def _chosen(effects: list[str], side: Side, thinned: bool) -> list[Point]:
    """The points of that side; in a thinned run some, on either side others."""
    found = [point for point in points(effects) if point.side is side]
    if not thinned:
        return found
    events = [point for point in found if point.effect.startswith("event")]
    others = [point for point in found if point not in events]
    return [*others[2 * (side is Side.AFTER) :: KEPT], *events[::EVENTS_KEPT]]
