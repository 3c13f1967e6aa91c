"""What the runner leaves: the preview's lock where a deploy is another's now, what serves where its record is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from provider.models import DeployRecord, Owner, Phase, StoredRequest, now
from provider.pipeline.ending import Ending
from provider.settings import Settings
from tests.unit.keeping import Surroundings

SLUG = "my-app"


def about_to_change() -> DeployRecord:
    """A deploy that is prepared, and waits until nobody else changes the preview."""
    return DeployRecord(
        platform_id="here",
        deploy_id="d",
        owner=Owner(instance="mine", epoch=1),
        fingerprint="f",
        request=StoredRequest(repo_full_name="acme/my-app", branch="main"),
        created_at=now(),
        deadline=now() + timedelta(hours=1),
        phase=Phase.DEPLOY,
        slug=SLUG,
        commit_sha="a" * 40,
    )


@pytest.mark.parametrize("ticks", range(2))
async def test_who_is_taken_for_dead_just_when_the_lock_is_his_gives_it_back(ticks: int) -> None:
    """Else whatever comes later for this preview waits in vain, as long as the process lives."""
    around = Surroundings(Settings(platform_id="here"))
    lock = around.runner.lock(SLUG)
    async with lock:
        around.runner.start(about_to_change())
        for _ in range(20):  # until it waits for the lock
            await asyncio.sleep(0)
    for _ in range(ticks):
        await asyncio.sleep(0)
    await around.runner.abandon()
    assert not lock.locked()


class Retiring:
    """A platform that only retires."""

    def __init__(self) -> None:
        self.retired: list[str] = []

    async def drop_staged(self, name: str) -> None:
        """Nothing is staged."""

    async def retire(self, slug: str, kept: tuple[object, ...], up_to: int) -> None:
        self.retired.append(slug)


async def test_what_serves_stays_when_the_bus_loses_its_record_as_a_deploy_ends() -> None:
    around = Surroundings(Settings(platform_id="here"), platform=cast(Any, Retiring()))
    ending = Ending(around.ctx, around.runner.lock)
    record = about_to_change().model_copy(update={"generation": 1})
    await ending.clean_up(record)
    assert cast(Any, around.platform).retired == []
    await around.preview(SLUG)
    await ending.clean_up(record)
    assert cast(Any, around.platform).retired == [SLUG]
