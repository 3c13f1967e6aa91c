"""Who lives, as real heartbeats on a real server tell it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from nats.aio.client import Client

from provider.models import Owner
from provider.store import Lapsed, Living, Membership
from provider.store.jetstream import JetStreamKeyValue
from provider.store.kv import KeyValue, MemoryKeyValue
from tests.e2e.helpers import eventually

LEASE = 0.3


@pytest.fixture
async def bucket(nc: Client, prefix: str) -> KeyValue:
    return await JetStreamKeyValue.open(nc, f"{prefix.replace('.', '_')}_deploys", 1 << 26, relist=1.0)


def member(bucket: KeyValue, name: str, platform_id: str = "here") -> Membership:
    return Membership(bucket=bucket, platform_id=platform_id, name=name, lease=LEASE)


async def seen_dead(observer: Membership, name: str) -> Living:
    """The observer's view once it does not hold `name` for alive any more."""
    living = await observer.look()

    async def gone() -> bool:
        nonlocal living
        await observer.beat()
        living = await observer.look()
        return name not in living.since

    await eventually(gone, what=f"{name} is dead")
    return living


async def test_who_beats_lives_and_who_is_silent_dies(bucket: KeyValue) -> None:
    one, two, three = (member(bucket, name) for name in ("one", "two", "three"))
    for each in (one, two, three):
        await each.join()
    assert set((await one.look()).since) == {"one", "two", "three"}

    async def two_is_dead() -> bool:
        await three.beat()
        return "two" not in (await one.look()).since

    await eventually(two_is_dead, what="two is dead")
    assert set((await one.look()).since) == {"one", "three"}
    with pytest.raises(Lapsed):
        await two.beat()


async def test_what_a_dead_one_owned_is_nobodys(bucket: KeyValue) -> None:
    one, two = member(bucket, "one"), member(bucket, "two")
    await one.join()
    await two.join()
    owner = two.owner
    assert (await one.look()).has(owner)
    living = await seen_dead(one, "two")
    assert not living.has(owner)
    assert living.has(one.owner)
    await two.join()
    living = await one.look()
    assert not living.has(owner), "another life of the same name"
    assert living.has(two.owner)


async def test_who_leaves_is_dead_at_once(bucket: KeyValue) -> None:
    one, two = member(bucket, "one"), member(bucket, "two")
    await one.join()
    await two.join()
    await two.leave()
    assert set((await one.look()).since) == {"one"}


async def test_who_has_left_is_forgotten_after_a_lease(bucket: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = member(bucket, "one"), member(bucket, "two"), member(bucket, "three")
    for each in (one, two, three):
        await each.join()
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    await two.leave()
    for observer in (one, three):
        assert (await observer.look()).left == {("two", two.epoch)}, "everybody sees it"
    for _ in range(3):
        clock += one.lease / 2
        await one.look()
        await three.beat()
    living = await one.look()
    assert (set(living.since), living.left) == ({"one", "three"}, frozenset())
    assert [entry.key for entry in await bucket.entries("instance.two")] == []


async def test_who_is_stopped_in_the_middle_of_a_beat_leaves_all_the_same(bucket: KeyValue) -> None:
    """The beat came through, and nobody heard that it did."""
    one, two = member(bucket, "one"), member(bucket, "two")
    await one.join()
    await two.join()
    before = two._revision
    await two.beat()
    two._revision = before
    await two.leave()
    assert set((await one.look()).since) == {"one"}


async def test_a_namesake_that_came_is_not_taken_away(bucket: KeyValue) -> None:
    first, second, observer = member(bucket, "pod"), member(bucket, "pod"), member(bucket, "other")
    await observer.join()
    await first.join()
    await second.join()
    await first.leave()
    assert (await observer.look()).has(second.owner)


class Buries(MemoryKeyValue):
    """A bucket in which somebody removes the first heartbeat at once."""

    buried = 0

    async def put(self, key: str, value: bytes) -> int:
        revision = await super().put(key, value)
        if not self.buried:
            self.buried = revision
            await self.delete(key, revision)
        return revision


async def test_who_is_taken_for_dead_while_joining_joins_again() -> None:
    bucket = Buries()
    one = member(bucket, "one")
    await one.join()
    assert one.epoch > bucket.buried > 0
    assert (await member(bucket, "two").look()).has(one.owner)


async def test_a_namesake_takes_the_place(bucket: KeyValue) -> None:
    first, second, observer = member(bucket, "pod"), member(bucket, "pod"), member(bucket, "other")
    await observer.join()
    await first.join()
    owner = first.owner
    await second.join()
    assert second.epoch > first.epoch
    with pytest.raises(Lapsed):
        await first.beat()
    await second.beat()
    assert not (await observer.look()).has(owner)


async def test_a_new_epoch_is_above_all_and_the_earlier_ones_stay_ours(bucket: KeyValue) -> None:
    one, two = member(bucket, "one"), member(bucket, "two")
    await one.join()
    earlier = one.owner
    await two.join()
    assert await one.renew() > two.epoch
    living = await two.look()
    assert living.has(earlier)
    assert living.has(one.owner)


async def test_alone_means_that_all_others_are_dead(bucket: KeyValue) -> None:
    one, two = member(bucket, "one"), member(bucket, "two")
    await one.join()
    await two.join(alone=True)
    assert set((await two.look()).since) == {"two"}
    with pytest.raises(Lapsed):
        await one.beat()


async def test_another_installation_is_not_seen(bucket: KeyValue) -> None:
    one, foreign = member(bucket, "one"), member(bucket, "foreign", platform_id="there")
    await foreign.join()
    await one.join(alone=True)
    assert set((await one.look()).since) == {"one"}
    await foreign.beat()


def test_each_key_has_one_keeper_and_few_move() -> None:
    three = Living({"a": 1, "b": 2, "c": 3})
    two = Living({"a": 1, "b": 2})
    keys = [f"slug-{number}" for number in range(300)]
    assert {three.keeper(key) for key in keys} == {"a", "b", "c"}
    moved = [key for key in keys if three.keeper(key) != two.keeper(key)]
    assert all(three.keeper(key) == "c" for key in moved)
    assert not three.has(Owner(instance="a", epoch=0))


@pytest.mark.parametrize(("silent", "half"), [(3600.0, True), (0.0, False)])
async def test_who_was_silent_before_one_came_has_had_half_its_time(silent: float, half: bool) -> None:
    """When all die at once, and come back under other names, nobody is there who saw it."""
    bucket = MemoryKeyValue()
    dead, newcomer = (Membership(bucket=bucket, platform_id="here", name=name, lease=9.0) for name in ("dead", "new"))
    await dead.join()
    last = bucket._entries["instance.dead"]
    bucket._entries["instance.dead"] = replace(last, created=last.created - timedelta(seconds=silent))
    await newcomer.join()
    assert set((await newcomer.look()).since) == {"dead", "new"}, "it may live, on a bus that was away"
    assert (newcomer._seen["instance.dead"].quiet == 4.5) is half
    await dead.beat()
    await newcomer.look()
    assert newcomer._seen["instance.dead"].quiet == 0.0
