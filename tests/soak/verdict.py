"""What was lost, done twice or left behind: each is a count that has to be zero."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

from provider.demo.processes import Server
from tests.crash.invariants import Judge
from tests.e2e.helpers import eventually
from tests.soak.callers import Callers
from tests.soak.ledger import Good
from tests.soak.world import PLATFORM_ID, SoakWorld

SETTLE_SECONDS = 150.0
STOP_RACE = 1.0
STAGED = "staged secrets"
STOP_SECONDS = 12.0
WATCHES = 13
"""That one provider has open."""


async def settled(world: SoakWorld, slugs: list[str]) -> dict[str, list[str]]:
    """What is still wrong with each preview when it has had its time."""
    judge = Judge(place=world.place, store=world.store, guest=world.guest, bodies=world.bodies())
    until = time.monotonic() + SETTLE_SECONDS
    wrong: dict[str, list[str]] = {slug: ["not looked at yet"] for slug in slugs}
    while wrong and time.monotonic() < until:
        wrong = {slug: found for slug in wrong if slug != STAGED and (found := await judge.violations(slug))}
        if staged := judge.staged(PLATFORM_ID):
            wrong[STAGED] = staged
        await asyncio.sleep(0.5)
    return wrong


def rebuilt(world: SoakWorld, callers: Callers) -> list[str]:
    """Builds that neither a failure, a teardown nor the end of their deploy made necessary."""
    codes = {one.deploy_id: one.answers[0].get("code") for one in callers.deploys if one.answers}

    def torn_down(slug: str, good: Good, begun: float) -> bool:
        return any(asked <= begun and done >= good.ended for asked, done in callers.teardowns.get(slug, []))

    def stopped(good: Good) -> bool:
        """Whether its deploy was stopped just when the build ended: then the Job was to go."""
        given_up = codes.get(good.deploy_id) in {"cancelled", "superseded"}
        return given_up and good.deleted is not None and good.deleted - good.ended < STOP_RACE

    return [
        f"{slug} {inputs[:12]}: the first for {good.deploy_id}"
        for (slug, inputs), good, begun in world.ledger.rebuilt
        if not torn_down(slug, good, begun) and not stopped(good)
    ]


def unhandled(provider: Server) -> Iterator[str]:
    """Exceptions in a provider's log, over all its lives."""
    for line in provider.log.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            if line.startswith(("Traceback", "Task ", "Exception", "Unclosed", "asyncio")) or "never retrieved" in line:
                yield f"{provider.name}: {line}"
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # its process was killed in the middle of it
        if "exception" in entry:
            yield f"{provider.name}: {entry.get('event')}: {str(entry['exception']).splitlines()[-1]}"


async def leaks(world: SoakWorld) -> list[str]:
    """Watches, while the providers are there and idle; watches and slow ends, when they stop."""
    found = []
    metrics, expected = world.cluster.api.metrics, WATCHES * len(world.providers)

    async def all_open() -> bool:
        return metrics.watches >= expected

    await eventually(all_open, timeout=60, what="every provider watches")
    if metrics.watches > expected:
        found.append(f"{metrics.watches} watches of {len(world.providers)} providers")
    for provider in world.providers:
        began = time.monotonic()
        await provider.stop()
        status, seconds = await provider.died(), time.monotonic() - began
        if status != 0 or seconds > STOP_SECONDS:
            found.append(f"{provider.name} ended with {status} after {seconds:.1f} s")
    await asyncio.sleep(0.5)
    if metrics.watches:
        found.append(f"{metrics.watches} watches without a provider")
    return found


def counts(world: SoakWorld, callers: Callers, wrong: dict[str, list[str]], leaked: list[str]) -> dict[str, list[str]]:
    """Everything that was found, by what it violates."""
    found = [f"{slug}: {one}" for slug, problems in wrong.items() for one in problems]

    def those(*marks: str) -> list[str]:
        return [one for one in found if any(mark in one for mark in marks)]

    named = {
        "requests without an answer": callers.unanswered,
        "two different answers": callers.different(),
        "answers that nothing explains": callers.odd,
        "builds beyond the first of their inputs": rebuilt(world, callers),
        "applies by a stale generation that stuck": [*world.ledger.stale, *those("stale generation")],
        "previews that serve something else than their record says": those("serves"),
        "objects without record": those("object without record", "without its anchor", "left over"),
        "records without objects": those("record without object"),
        "records that are not final": those("not final", "not looked at"),
        "unhandled exceptions": [one for provider in world.providers for one in unhandled(provider)],
        "leaked tasks, connections, watches": leaked,
    }
    told = {one for problems in named.values() for one in problems}
    return named | {"anything else": [one for one in found if one not in told]}
