"""Each guard is needed: without it, its invariant turns red, and the judge sees that.

One provider is cut off in the middle of a deploy, as by SIGSTOP, while another goes on; then it wakes up. With the
guard all is well; without it, the violation is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.crash import sabotage
from tests.crash.arena import Arena, Chain, Question
from tests.crash.mortal import Mortal, Sabotage
from tests.crash.scenarios import judge_of
from tests.e2e.helpers import PAUSE, eventually
from tests.telling import Tell

LEASE = "1.5"
GRACE = 1.0
"""Seconds in which whatever a stale provider still does has to have shown."""
SETTLED = 6.0
"""Seconds in which the other provider has put right what can be."""
REPEATED = 8.0
"""Seconds in which an answer that nobody took is said again."""
PATIENCE = 20.0

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Seen:
    """What was wrong at some moment since the stale effect, and what was in the end."""

    ever: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """For how many seconds it is looked."""
        return time.monotonic() - self.since


@dataclass
class Duel:
    """Two providers of one installation; the first is the one that is cut off."""

    chain: Chain
    first: Mortal
    dying: list[asyncio.Task[None]] = field(default_factory=list)

    async def asked(self, app: str, number: int = 1) -> Question:
        """Ask for a deploy."""
        return await self.chain.ask("provision", self.chain.request(app, f"{self.chain.slug}-{app}-{number}"))

    async def deployed(self, app: str) -> None:
        """Deploy, and wait for the answer."""
        await self.insist("provision", self.chain.request(app, f"{self.chain.slug}-{app}-1"))

    async def insist(self, endpoint: str, body: dict[str, Any]) -> None:
        """Ask again and again until somebody answers: a provider that is cut off takes requests, too."""
        question, inbox = Question(), self.chain.arena.nc.new_inbox()
        await self.chain.arena.nc.subscribe(inbox, cb=question.answered)
        async with asyncio.timeout(PATIENCE):
            while not question.answers:
                question.changed.clear()
                await self.chain.publish(endpoint, body, inbox)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await question.changed.wait()

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

    async def thaw_until_done(self, effect: str, *, bus: bool = False) -> None:
        """The first wakes up, does just that, and dies for good; it hears nothing of what happened but by the API."""
        self.first.gate.thaw(bus=bus)

        async def done() -> bool:
            return self.first.gate.done[effect] > 0

        await eventually(done, what=effect, longest_pause=PAUSE)  # what it did may not stay for long
        dying = asyncio.create_task(self._die_soon())
        self.dying.append(dying)

    async def _die_soon(self) -> None:
        await asyncio.sleep(GRACE / 2)
        await self.first.kill()

    async def violations(self) -> Seen:
        """What is wrong at first, and what still is after a while: much is put right by whoever lives."""
        judge = judge_of(self.chain)
        seen = Seen()

        async def fine() -> bool:
            seen.left = await judge.violations(self.chain.slug)
            seen.ever |= set(seen.left)
            return not seen.left and seen.age > GRACE

        with contextlib.suppress(AssertionError):
            await eventually(fine, timeout=SETTLED, longest_pause=PAUSE)
        return seen


@asynccontextmanager
async def duel(arena: Arena, saboteur: Sabotage | None) -> AsyncIterator[Duel]:
    """The first provider, sabotaged or not."""
    chain = await arena.chain()
    soon = {"branch_check_seconds": "0.1", "branch_grace_seconds": "0.1", "sweep_grace": "0.001"}
    first = chain.another(saboteur, instance_name="first", lease_seconds=LEASE, **soon)
    await first.start()
    made = Duel(chain, first)
    try:
        yield made
    finally:
        first.gate.thaw()
        await asyncio.gather(*made.dying)
        await first.kill()


async def answered(question: Question, timeout: float = PATIENCE) -> None:
    """Wait for the answer."""

    async def there() -> bool:
        return bool(question.answers)

    await eventually(there, timeout=timeout, what="an answer")


# ------------------------------------------------------------------------------ stories


async def overtaken_while_it_writes(one: Duel) -> Seen:
    """Cut off while it writes the record; something newer is deployed; the old write comes late."""
    await one.deployed("first")
    await one.frozen_before("kv previews preview", "second")
    async with one.second():
        await one.deployed("third")
        await one.thaw_until_done("kv previews preview", bus=True)
        return await one.violations()


async def overtaken_while_it_applies(one: Duel) -> Seen:
    """Cut off while it applies; something newer is deployed; the old apply comes late."""
    await one.deployed("first")
    await one.frozen_before("patch deployments SLUG", "second")
    async with one.second():
        await one.deployed("third")
        await one.thaw_until_done("patch deployments SLUG")
        return await one.violations()


async def torn_down_while_it_applies(one: Duel) -> Seen:
    """Cut off while it applies; the preview is torn down; the old apply comes late."""
    await one.frozen_before("patch ingresses SLUG", "first")
    async with one.second():
        await one.insist("teardown", {"slug": one.chain.slug})
        await one.thaw_until_done("patch ingresses SLUG")
        return await one.violations()


async def taken_over_while_it_applies(one: Duel) -> Seen:
    """Cut off while it applies; another ends the same deploy, and puts the last good back; the old apply comes late."""
    await one.deployed("first")
    question = await one.frozen_before("patch deployments SLUG", "bad")
    async with one.second():
        await answered(question)
        await one.thaw_until_done("patch deployments SLUG")
        return await one.violations()


async def answered_while_nobody_listens(one: Duel) -> Seen:
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
        await answered(question, REPEATED)
    except AssertionError:
        return Seen({"no answer"}, ["no answer"])
    return await one.violations()


async def the_git_host_is_away(one: Duel) -> Seen:
    """Again and again the git host answers with errors; nothing may be removed for that."""
    await one.deployed("first")
    git = one.chain.arena.git
    git.fail_with = 500
    try:
        for _ in range(6):
            await asyncio.sleep(0.3)
            await one.first.chore("branches")
    finally:
        git.fail_with = None
    record = await one.chain.store.get_preview(one.chain.slug)
    if record is None or record.removed_at is not None:
        return Seen({"removed without being asked to"})
    return await one.violations()


async def another_client_has_objects_there(one: Duel) -> Seen:
    """The platform's present provider has a preview of its own; it has no record of ours."""
    await one.deployed("first")
    place, name = one.chain.arena.place, f"theirs-{one.chain.slug}"
    labels = {"app": name, "x1-preview": "true"}
    metadata = {"name": name, "namespace": place.previews, "labels": labels}
    ports = [{"port": 80, "targetPort": 8080}]
    await place.api.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}}
    )

    async def shown() -> bool:
        return sabotage.platform(one.first.provider)._watches.services.get(name) is not None

    await eventually(shown)
    for _ in range(2):
        await one.first.chore("sweep")
    if await place.api.get("Service", place.previews, name) is None:
        return Seen({"removed what another made"})
    return await one.violations()


@dataclass(frozen=True)
class Case:
    """A guard, how it is taken away, and what is then seen."""

    guard: str
    saboteur: Sabotage
    story: Callable[[Duel], Awaitable[Seen]]
    invariant: str


CASES = (
    Case("compare-and-set", sabotage.no_compare_and_set, overtaken_while_it_writes, "serves something else"),
    Case("generation check", sabotage.no_generation_check, overtaken_while_it_applies, "serves something else"),
    Case("anchor", sabotage.no_anchor, torn_down_while_it_applies, "object without record: Ingress"),
    Case("heartbeat epoch", sabotage.no_epoch, taken_over_while_it_applies, "serves something else"),
    Case("reply repetition", sabotage.no_repetition, answered_while_nobody_listens, "no answer"),
    Case(
        "label prefix of the sweep", sabotage.no_label_prefix, another_client_has_objects_there, "removed what another"
    ),
    Case("branch-gone rule", sabotage.errors_are_answers, the_git_host_is_away, "removed without being asked"),
)
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.guard)


@EACH
async def test_with_the_guard_all_is_well(crash_arena: Arena, case: Case) -> None:
    async with duel(crash_arena, None) as one:
        seen = await case.story(one)
    assert seen.left == []
    assert [one for one in seen.ever if case.invariant in one] == []


@EACH
async def test_without_the_guard_the_violation_is_seen(crash_arena: Arena, case: Case, tell: Tell) -> None:
    async with duel(crash_arena, case.saboteur) as one:
        seen = await case.story(one)
    red = sorted(one for one in seen.ever if case.invariant in one)
    tell(f"without {case.guard} -> {case.invariant}: {'; '.join(red)}")
    assert red, seen
