"""What a dead provider left is taken over, also when its last write came just then."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from provider.errors import Code, Temporary
from provider.leases import Leases
from provider.models import DeployRecord, Owner, StoredRequest, now
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.platforms.base import Platform
from provider.settings import Settings
from provider.store import Living, Membership, Store
from provider.store.kv import MemoryKeyValue

DEAD = Owner(instance="dead", epoch=1)


@dataclass
class Started:
    """Takes what a runner would run, and what a platform would be told."""

    ids: list[str] = field(default_factory=list)

    def start(self, record: DeployRecord) -> None:
        self.ids.append(record.deploy_id)

    def is_running(self, deploy_id: str) -> bool:
        return deploy_id in self.ids

    def renew(self, _: int) -> None:
        return None

    async def abandon(self) -> None:
        return None


class LateWrite(Store):
    """A store in which the dead owner's last write comes just after the first listing."""

    late = True

    async def unfinished_deploys(self) -> list[DeployRecord]:
        listed = await super().unfinished_deploys()
        if self.late:
            self.late = False
            other = Store(previews=self._previews, deploys=self._deploys, platform_id="here")
            for record in await other.unfinished_deploys():
                await other.save_deploy(record.model_copy(update={"warnings": ("late",)}))
        return listed


def deploy() -> DeployRecord:
    return DeployRecord(
        platform_id="here",
        deploy_id="d",
        owner=DEAD,
        fingerprint="f",
        request=StoredRequest(repo_full_name="acme/app", branch="main"),
        created_at=now(),
        deadline=now() + timedelta(hours=1),
    )


class Unlisted(Store):
    """A store that can't be listed for a moment."""

    away = False

    async def unfinished_deploys(self) -> list[DeployRecord]:
        if self.away:
            self.away = False
            raise Temporary(Code.PLATFORM_UNREACHABLE, "The bus did not answer.")
        return await super().unfinished_deploys()


def leases_of(store: Store, runner: Started, told: list[str]) -> Leases:
    """Those of a provider called `mine`."""
    ctx = Context(
        settings=Settings(platform_id="here"),
        platform=cast(Platform, runner),
        source=cast(Any, None),
        store=store,
        reporter=cast(Any, None),
        emit=lambda *_: None,
        line=cast(Any, None),
        logbook=cast(Any, None),
    )
    membership = store.membership("mine", 9.0)
    return Leases(ctx=ctx, runner=cast(Runner, runner), membership=membership, exclusive=False, told=told.append)


async def test_a_take_over_that_lost_against_a_late_write_is_tried_with_the_next_beat() -> None:
    store = LateWrite(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    await store.create_deploy(deploy())
    store._owned.clear()
    runner, told = Started(), list[str]()
    leases = leases_of(store, runner, told)
    assert not leases.part().ok
    await leases.start()
    assert (runner.ids, leases.part().ok) == ([], True)
    await leases.once()
    assert (runner.ids, told, leases.providers) == (["d"], ["taken_over"], 1)


async def test_what_one_left_that_went_while_the_bus_failed_is_taken_over_with_the_next_beat() -> None:
    store = Unlisted(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    runner = Started()
    leases = leases_of(store, runner, [])
    await leases.start()
    other = store.membership("other", 9.0)
    await other.join()
    await store.create_deploy(deploy().model_copy(update={"owner": other.owner}))
    await leases.once()
    await other.leave()
    store.away = True
    with pytest.raises(Temporary):
        await leases.once()
    assert runner.ids == []
    await leases.once()
    assert runner.ids == ["d"]


async def test_what_one_left_that_came_and_went_between_two_beats_is_taken_over() -> None:
    store = Store(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    runner = Started()
    leases = leases_of(store, runner, [])
    await leases.start()
    other = store.membership("other", 9.0)
    await other.join()
    await store.create_deploy(deploy().model_copy(update={"owner": other.owner}))
    await other.leave()
    await leases.once()
    assert (runner.ids, leases.providers) == (["d"], 1)


class Stopped(Membership):
    """Is taken for dead between a beat and what it does next, once."""

    buried = True

    async def look(self) -> Living:
        if not self.buried:
            self.buried = True
            (entry,) = await self._entries()
            await self._bury(entry)
        return await super().look()


async def test_who_is_taken_for_dead_before_it_takes_over_begins_anew() -> None:
    store = Store(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    runner, told = Started(), list[str]()
    leases = leases_of(store, runner, told)
    leases._membership = membership = Stopped(bucket=store._deploys, platform_id="here", name="mine", lease=9.0)
    await leases.start()
    await store.create_deploy(deploy())
    store._owned.clear()
    leases._reviewed = -math.inf
    membership.buried = False
    await leases.once()
    assert (told, runner.ids) == (["lapsed"], [])
    await leases.once()
    assert (told, runner.ids) == (["lapsed", "taken_over"], ["d"])


class Together(Store):
    """A store that answers no write before all are asked for."""

    all_there: asyncio.Barrier

    async def save_deploy(self, record: DeployRecord) -> None:
        await self.all_there.wait()
        await super().save_deploy(record)


async def test_what_a_dead_one_left_is_taken_over_together() -> None:
    """Else the last one would wait for the work of the first, which begins as soon as it is taken over."""
    store = Together(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    ids = [f"d-{number}" for number in range(50)]
    for deploy_id in ids:
        await store.create_deploy(deploy().model_copy(update={"deploy_id": deploy_id}))
    store._owned.clear()
    store.all_there, runner = asyncio.Barrier(len(ids)), Started()
    async with asyncio.timeout(10):
        await leases_of(store, runner, []).start()
    assert sorted(runner.ids) == sorted(ids)
