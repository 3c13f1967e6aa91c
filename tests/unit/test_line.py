"""The line's rules: limits that never are passed, turns that are fair, and nobody who waits for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.errors import Code, Temporary
from provider.models import LineRecord, Stage, Ticket, short_repo
from provider.store import line as rules
from provider.store.line import QUEUED, RUNNING, Limits

EMPTY = LineRecord(platform_id="here")
WIDE = Limits(deploys=100, builds=100, builds_per_repository=100, queue=100)


def ticket(number: int, repo: str = "a", stage: Stage = Stage.WAITING) -> Ticket:
    return Ticket(deploy_id=f"d{number}", order=number, repo=repo, instance="i", stage=stage)


def line(*tickets: Ticket) -> LineRecord:
    return LineRecord(platform_id="here", tickets=tickets)


def after(before: LineRecord, limits: Limits, *changes: rules.Change) -> LineRecord:
    for change in changes:
        before = change(before)
    return rules.grant(before, limits)


def at(found: LineRecord, stage: Stage) -> list[str]:
    return [one.deploy_id for one in found.tickets if one.stage is stage]


# --------------------------------------------------------------------------- the changes


def test_a_deploy_goes_through_the_line() -> None:
    entered = after(EMPTY, WIDE, rules.entered(ticket(1)))
    assert at(entered, Stage.DEPLOYING) == ["d1"]
    building = after(entered, WIDE, rules.wants_build("d1"))
    assert at(building, Stage.BUILDING) == ["d1"]
    assert at(after(building, WIDE, rules.built("d1")), Stage.DEPLOYING) == ["d1"]
    assert after(building, WIDE, rules.left(["d1"])).tickets == ()


@pytest.mark.parametrize("stage", Stage)
def test_what_is_done_already_changes_nothing(stage: Stage) -> None:
    present = line(ticket(1, stage=stage))
    assert rules.entered(ticket(1))(present) == present
    assert rules.reserved(ticket(1), WIDE)(present) is present
    assert rules.left(["d2"])(present) == present
    for change in (rules.wants_build("d2"), rules.built("d2")):
        assert change(present) is present


def test_a_deploy_that_another_provider_takes_over_keeps_its_place() -> None:
    present = line(ticket(1, stage=Stage.BUILDING), ticket(2))
    taken = rules.entered(ticket(1).model_copy(update={"instance": "j", "order": 9}))(present)
    assert taken.tickets[0] == present.tickets[0].model_copy(update={"instance": "j"})


def test_a_deploy_that_is_past_its_build_is_believed() -> None:
    taken = rules.entered(ticket(1, stage=Stage.DEPLOYING))(line(ticket(1, stage=Stage.BUILDING)))
    assert at(taken, Stage.DEPLOYING) == ["d1"]


def test_a_deploy_that_waits_for_a_build_lets_others_deploy() -> None:
    limits = Limits(deploys=1, builds=1, builds_per_repository=1, queue=9)
    busy = line(ticket(1, stage=Stage.BUILDING), ticket(2, stage=Stage.BUILD_WAITING), ticket(3))
    assert rules.grant(busy, limits) is busy
    free = after(busy, limits, rules.left(["d1"]))
    assert (at(free, Stage.BUILDING), at(free, Stage.WAITING)) == (["d2"], ["d3"])
    one = line(ticket(1, stage=Stage.DEPLOYING), ticket(2, stage=Stage.BUILDING), ticket(3))
    waits = after(one, Limits(deploys=2, builds=1, builds_per_repository=1, queue=9), rules.wants_build("d1"))
    assert (at(waits, Stage.BUILD_WAITING), at(waits, Stage.DEPLOYING)) == (["d1"], ["d3"])


def test_a_repository_in_another_case_is_the_same() -> None:
    assert short_repo("Acme/Shop") == short_repo("acme/shop") != short_repo("acme/shop2")


# ------------------------------------------------------------------------------ fairness


def test_the_repository_with_the_fewest_builds_is_next_then_the_oldest() -> None:
    limits = Limits(deploys=9, builds=3, builds_per_repository=2, queue=9)
    many = [ticket(number, "many", Stage.BUILD_WAITING) for number in (1, 2, 3)]
    found = rules.grant(line(*many, ticket(4, "few", Stage.BUILD_WAITING)), limits)
    assert at(found, Stage.BUILDING) == ["d1", "d2", "d4"]


def test_a_repository_at_its_limit_keeps_nobody_else_from_building() -> None:
    limits = Limits(deploys=9, builds=3, builds_per_repository=1, queue=9)
    waiting = [ticket(1, "a", Stage.BUILD_WAITING), ticket(2, "a", Stage.BUILD_WAITING)]
    found = rules.grant(line(*waiting, ticket(3, "b", Stage.BUILD_WAITING)), limits)
    assert at(found, Stage.BUILDING) == ["d1", "d3"]


def test_positions_are_the_order_of_turns() -> None:
    waiting = [ticket(1, "a"), ticket(2, "a"), ticket(3, "b")]
    found = rules.positions(line(ticket(0, "a", Stage.DEPLOYING), *waiting))
    assert found == {"d3": (1, 3), "d1": (2, 3), "d2": (3, 3)}


# ---------------------------------------------------------------------------- queue_full


def test_a_full_queue_says_when_to_ask_again() -> None:
    limits = Limits(deploys=1, builds=1, builds_per_repository=1, queue=1)
    full = line(ticket(1, stage=Stage.DEPLOYING), ticket(2))
    with pytest.raises(Temporary) as refused:
        rules.reserved(ticket(3), limits)(full)
    assert (refused.value.code, refused.value.retryable, refused.value.delay) == (Code.QUEUE_FULL, True, 15.0)
    assert "15 s" in str(refused.value.hint)
    assert "retry_after_seconds 15" in refused.value.evidence
    known = rules.reserved(ticket(2), limits)(full)
    assert known is full, "who stands there already is not sent away"


def test_who_gets_a_turn_at_once_does_not_queue() -> None:
    limits = Limits(deploys=2, builds=2, builds_per_repository=2, queue=1)
    reserved = [rules.reserved(ticket(number), limits) for number in (1, 2, 3)]
    assert at(after(EMPTY, limits, *reserved), Stage.WAITING) == ["d3"]
    with pytest.raises(Temporary):
        rules.reserved(ticket(4), limits)(after(EMPTY, limits, *reserved))


def test_a_reserved_place_is_behind_everybody() -> None:
    found = rules.reserved(ticket(0), WIDE)(line(ticket(7), ticket(3)))
    assert found.tickets[-1].order == 8


# ---------------------------------------------------------------------------- properties

LIMITS = st.builds(
    Limits,
    deploys=st.integers(1, 5),
    builds=st.integers(1, 4),
    builds_per_repository=st.integers(1, 3),
    queue=st.integers(1, 6),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "build", "built", "leave"]), st.integers(0, 30), st.sampled_from("abc")),
    max_size=60,
)


def running(found: LineRecord) -> list[Ticket]:
    return [one for one in found.tickets if one.stage in RUNNING]


def builds(found: LineRecord) -> Counter[str]:
    return Counter(one.repo for one in found.tickets if one.stage is Stage.BUILDING)


def change_of(kind: str, number: int, repo: str, limits: Limits) -> rules.Change:
    deploy_id = f"d{number}"
    return {
        "enter": rules.reserved(ticket(number, repo), limits),
        "build": rules.wants_build(deploy_id),
        "built": rules.built(deploy_id),
        "leave": rules.left([deploy_id]),
    }[kind]


@given(limits=LIMITS, steps=STEPS)
def test_limits_are_never_passed(limits: Limits, steps: Iterable[tuple[str, int, str]]) -> None:
    present = EMPTY
    for step in steps:
        try:
            present = after(present, limits, change_of(*step, limits))
        except Temporary:
            assert rules.queued(present, limits) >= limits.queue
        assert len(running(present)) <= limits.deploys
        assert builds(present).total() <= limits.builds
        assert all(number <= limits.builds_per_repository for number in builds(present).values())
        assert len(present.tickets) <= limits.deploys + limits.queue
        assert len({one.deploy_id for one in present.tickets}) == len(present.tickets)
        assert rules.grant(present, limits) is present, "a turn that is free is given at once"


@given(limits=LIMITS, steps=STEPS)
def test_nothing_is_idle_while_somebody_waits_for_it(limits: Limits, steps: Iterable[tuple[str, int, str]]) -> None:
    present = EMPTY
    for kind, number, repo in steps:
        change = rules.entered(ticket(number, repo)) if kind == "enter" else change_of(kind, number, repo, limits)
        present = after(present, limits, change)
        if at(present, Stage.WAITING):
            assert len(running(present)) == limits.deploys
        if len(running(present)) < limits.deploys and builds(present).total() < limits.builds:
            idle = {one.repo for one in present.tickets if one.stage is Stage.BUILD_WAITING}
            assert all(builds(present)[repo] == limits.builds_per_repository for repo in idle)


@settings(max_examples=60)
@given(limits=LIMITS, repos=st.lists(st.sampled_from("abcd"), min_size=1, max_size=25), data=st.data())
def test_nobody_starves_however_many_come(limits: Limits, repos: list[str], data: st.DataObject) -> None:
    """Somebody new comes from a new repository for each one that ends; those that run end in their order."""
    present = after(EMPTY, limits, *(rules.entered(ticket(number, repo)) for number, repo in enumerate(repos)))
    mine = {f"d{number}" for number in range(len(repos))}
    rounds = 0
    while mine & {one.deploy_id for one in present.tickets}:
        rounds += 1
        assert rounds <= 20 * len(repos) + 20, f"still there: {present}"
        ending = data.draw(st.integers(0, 2)) % len(running(present))
        oldest = sorted(running(present), key=lambda one: one.order)[0 if rounds % 2 else ending]
        if oldest.stage is Stage.DEPLOYING and rounds % 3 == 0:
            present = after(present, limits, rules.wants_build(oldest.deploy_id))
        else:
            present = after(present, limits, rules.left([oldest.deploy_id]))
        number = 1000 + rounds
        present = after(present, limits, rules.entered(ticket(number, f"new{number}")))


@given(limits=LIMITS, repos=st.lists(st.sampled_from("abcd"), min_size=1, max_size=25))
def test_within_a_repository_the_order_is_kept(limits: Limits, repos: list[str]) -> None:
    present = after(EMPTY, limits, *(rules.entered(ticket(number, repo)) for number, repo in enumerate(repos)))
    began: list[Ticket] = []
    while present.tickets:
        began += [one for one in running(present) if one.deploy_id not in {old.deploy_id for old in began}]
        present = after(present, limits, rules.left([running(present)[0].deploy_id]))
    for repo in set(repos):
        orders = [one.order for one in began if one.repo == repo]
        assert orders == sorted(orders)


@given(limits=LIMITS, repos=st.lists(st.sampled_from("abcd"), min_size=1, max_size=25))
def test_turns_are_shared_evenly(limits: Limits, repos: list[str]) -> None:
    """No repository runs two more than one that still waits."""
    present = after(EMPTY, limits, *(rules.entered(ticket(number, repo)) for number, repo in enumerate(repos)))
    runs = Counter(one.repo for one in running(present))
    waits = {one.repo for one in present.tickets if one.stage in QUEUED}
    assert all(runs[repo] + 1 >= max(runs.values()) for repo in waits)
