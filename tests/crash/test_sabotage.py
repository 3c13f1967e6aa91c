"""Each guard is needed: without it, its invariant turns red, and the judge sees that.

One provider is cut off in the middle of a deploy, as by SIGSTOP, while another goes on; then it wakes up. With the
guard all is well; without it, the violation is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.crash import sabotage
from tests.crash.arena import APPS, Arena, Chain, Question
from tests.crash.invariants import Judge
from tests.crash.mortal import Mortal, Sabotage
from tests.e2e.helpers import eventually

LEASE = "1.5"
GRACE = 1.0
"""Seconds in which whatever a stale provider still does has to have shown."""
PATIENCE = 20.0

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Duel:
    """Two providers of one installation; the first is the one that is cut off."""

    chain: Chain
    first: Mortal

    async def asked(self, app: str, number: int = 1) -> Question:
        """Ask for a deploy."""
        return await self.chain.ask("provision", self.chain.request(app, f"{self.chain.slug}-{app}-{number}"))

    async def deployed(self, app: str) -> None:
        """Deploy, and wait for the answer."""
        await answered(await self.asked(app))

    async def frozen_before(self, effect: str, app: str) -> Question:
        """A deploy of the first provider that is cut off before that effect."""
        self.first.gate.freeze_before(effect)
        question = await self.asked(app)
        async with asyncio.timeout(PATIENCE):
            await self.first.gate.frozen.wait()
        return question

    @asynccontextmanager
    async def second(self) -> AsyncIterator[Mortal]:
        """Another provider beside."""
        other = self.chain.another(instance_name="second", lease_seconds=LEASE)
        await other.start()
        try:
            yield other
        finally:
            await other.kill()

    async def thaw_until_applied(self, effect: str) -> None:
        """The first wakes up, does just that, and dies for good."""
        self.first.gate.thaw()

        async def done() -> bool:
            return self.first.gate.done[effect] > 0

        await eventually(done, what=effect)
        await self.first.kill()

    async def violations(self) -> list[str]:
        """What is wrong after a while."""
        await asyncio.sleep(GRACE)
        arena = self.chain.arena
        bodies = {arena.commits[name]: app.body for name, app in APPS.items()}
        judge = Judge(place=arena.place, store=self.chain.store, guest=arena.guest, bodies=bodies)
        return await judge.violations(self.chain.slug)


@asynccontextmanager
async def duel(arena: Arena, saboteur: Sabotage | None) -> AsyncIterator[Duel]:
    """The first provider, sabotaged or not."""
    chain = await arena.chain()
    soon = {"branch_check_seconds": "0.1", "branch_grace_seconds": "0.1"}
    first = chain.another(saboteur, instance_name="first", lease_seconds=LEASE, **soon)
    await first.start()
    try:
        yield Duel(chain, first)
    finally:
        first.gate.thaw()
        await first.kill()


async def answered(question: Question) -> None:
    """Wait for the answer."""

    async def there() -> bool:
        return bool(question.answers)

    await eventually(there, timeout=PATIENCE, what="an answer")


# ------------------------------------------------------------------------------ stories


async def overtaken_while_it_writes(one: Duel) -> list[str]:
    """Cut off while it writes the record; something newer is deployed; the old write comes late."""
    await one.deployed("first")
    await one.frozen_before("kv previews preview", "second")
    async with one.second():
        await one.deployed("third")
        await one.thaw_until_applied("kv previews preview")
        return await one.violations()


async def overtaken_while_it_applies(one: Duel) -> list[str]:
    """Cut off while it applies; something newer is deployed; the old apply comes late."""
    await one.deployed("first")
    await one.frozen_before("patch deployments SLUG", "second")
    async with one.second():
        await one.deployed("third")
        await one.thaw_until_applied("patch deployments SLUG")
        return await one.violations()


async def torn_down_while_it_applies(one: Duel) -> list[str]:
    """Cut off while it applies; the preview is torn down; the old apply comes late."""
    await one.frozen_before("patch ingresses SLUG", "first")
    async with one.second():
        await answered(await one.chain.ask("teardown", {"slug": one.chain.slug}))
        await one.thaw_until_applied("patch ingresses SLUG")
        return await one.violations()


async def taken_over_while_it_applies(one: Duel) -> list[str]:
    """Cut off while it applies; another ends the same deploy, and puts the last good back; the old apply comes late."""
    await one.deployed("first")
    question = await one.frozen_before("patch deployments SLUG", "bad")
    async with one.second():
        await answered(question)
        await one.thaw_until_applied("patch deployments SLUG")
        return await one.violations()


async def answered_while_nobody_listens(one: Duel) -> list[str]:
    """The asker's connection is away just when the answer is given."""
    question, inbox, nc = Question(), one.chain.arena.nc.new_inbox(), one.chain.arena.nc
    body = one.chain.request("first", f"{one.chain.slug}-away")
    await one.chain.publish("provision", body, inbox)

    async def told() -> bool:
        return "reply" in one.first.gate.effects

    one.first.gate.arm(None)
    await eventually(told, timeout=PATIENCE)
    await nc.subscribe(inbox, cb=question.answered)
    try:
        await answered(question)
    except AssertionError:
        return ["no answer"]
    return await one.violations()


async def the_git_host_is_away(one: Duel) -> list[str]:
    """Again and again the git host answers with errors; nothing may be removed for that."""
    await one.deployed("first")
    git, keeper = one.chain.arena.git, one.first.provider._keeper
    look = next(chore.once for chore in keeper.chores if chore.name == "branches")
    git.fail_with = 500
    try:
        for _ in range(6):
            await asyncio.sleep(0.3)
            await look()
    finally:
        git.fail_with = None
    record = await one.chain.store.get_preview(one.chain.slug)
    if record is None or record.removed_at is not None:
        return ["removed without being asked to"]
    return await one.violations()


@dataclass(frozen=True)
class Case:
    """A guard, how it is taken away, and what is then seen."""

    guard: str
    saboteur: Sabotage
    story: Callable[[Duel], Awaitable[list[str]]]
    invariant: str


CASES = (
    Case("compare-and-set", sabotage.no_compare_and_set, overtaken_while_it_writes, "not final"),
    Case("generation check", sabotage.no_generation_check, overtaken_while_it_applies, "serves something else"),
    Case("anchor", sabotage.no_anchor, torn_down_while_it_applies, "object without record"),
    Case("heartbeat epoch", sabotage.no_epoch, taken_over_while_it_applies, "serves something else"),
    Case("reply repetition", sabotage.no_repetition, answered_while_nobody_listens, "no answer"),
    Case("branch-gone rule", sabotage.errors_are_answers, the_git_host_is_away, "removed without being asked"),
)
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.guard)


@EACH
async def test_with_the_guard_all_is_well(crash_arena: Arena, case: Case) -> None:
    async with duel(crash_arena, None) as one:
        assert await case.story(one) == []


@EACH
async def test_without_the_guard_the_violation_is_seen(crash_arena: Arena, case: Case) -> None:
    async with duel(crash_arena, case.saboteur) as one:
        found = await case.story(one)
    print(f"without {case.guard}: {case.invariant}: {found}")
    assert any(case.invariant in one for one in found)
