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
from tests.soak.claims import Court
from tests.soak.ledger import Build
from tests.soak.world import PLATFORM_ID, SoakWorld

SETTLE_SECONDS = 150.0
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
    """Builds of the same inputs as one before, where neither that one's failure nor what callers did was the cause.

    An image is had again by whoever wants it, unless the preview was torn down since. A build that was stopped was one
    of a deploy that failed: nobody wanted it then.
    """
    failed = {one.deploy_id for one in callers.deploys if one.answers and not one.answer["ok"]}

    def torn_down(before: Build, again: Build) -> bool:
        since = before.ended or before.begun
        return any(one.sent <= again.begun and one.over >= since for one in callers.teardowns.get(before.key[0], []))

    def needed(before: Build, again: Build) -> bool:
        if torn_down(before, again):
            return True
        if before.ended is not None:
            return not before.good
        return before.deleted is not None and before.deploy_id.partition(".")[0] in failed

    return [f"{before}; {again}" for before, again in world.ledger.again if not needed(before, again)]


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


def counts(
    world: SoakWorld, callers: Callers, court: Court, wrong: dict[str, list[str]], leaked: list[str]
) -> dict[str, list[str]]:
    """Everything that was found, by what it violates."""
    found = [f"{slug}: {one}" for slug, problems in wrong.items() for one in problems]
    found += [f"built twice: {one}" for one in rebuilt(world, callers)]
    found += [f"stale generation: {one}" for one in world.ledger.stale]
    found += [f"leaked: {one}" for one in leaked]
    return sorted_out(found, callers, court, [one for provider in world.providers for one in unhandled(provider)])


def sorted_out(found: list[str], callers: Callers, court: Court, exceptions: list[str]) -> dict[str, list[str]]:
    """What was found, by what it violates, with what the callers know."""

    def those(*marks: str) -> list[str]:
        return [one for one in found if any(mark in one for mark in marks)]

    named = {
        "requests without an answer": callers.asking.unanswered,
        "two different answers": callers.different(),
        "answers that nothing explains": callers.odd,
        "builds beyond the first of their inputs": those("built twice"),
        "claims that did not count": court.violations(),
        "applies by a stale generation that stuck": those("stale generation"),
        "previews that serve something else than their record says": those("serves"),
        "objects without record": those("object without record", "without its anchor", "left over"),
        "records without objects": those("record without object"),
        "records that are not final": those("not final", "not looked at"),
        "unhandled exceptions": exceptions,
        "leaked tasks, connections, watches": those("leaked"),
    }
    told = {one for problems in named.values() for one in problems}
    return named | {"anything else": [one for one in found if one not in told]}
