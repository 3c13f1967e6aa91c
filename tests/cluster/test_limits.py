"""How much is done at once: limits that hold whoever runs what, and a queue that says where one stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.cluster.apps import App
from tests.cluster.watching import Asker, deploying
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)

LOOK_SECONDS = 0.01


def with_settings(**settings: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("own_cluster", [settings], indirect=True)


async def building(world: ClusterWorld) -> set[str]:
    """The Jobs whose build has not ended."""
    jobs = {job["metadata"]["uid"]: job for job in await world.place.api.list("Job", world.place.builds)}
    for pod in await world.place.api.list("Pod", world.place.builds):
        statuses = pod.get("status", {}).get("containerStatuses", [])
        if any("terminated" in status.get("state", {}) for status in statuses):
            for owner in pod["metadata"].get("ownerReferences", []):  # another test's pod may have none
                jobs.pop(owner["uid"], None)
    return {job["metadata"]["name"] for job in jobs.values() if not job.get("status", {}).get("conditions")}


@asynccontextmanager
async def most_builds(world: ClusterWorld, slugs: list[str]) -> AsyncIterator[list[int]]:
    """How many builds of these previews were seen at once, again and again while the block runs."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            names = await building(world)
            seen.append(len([name for name in names if any(f"-{slug}-" in name for slug in slugs)]))
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def queued(asker: Asker, position: int) -> None:
    """Wait until the deploy was told that it stands there."""
    await asker.event(lambda event: event["type"] == "state" and event["data"].get("position") == position)


@with_settings(BUILDS_AT_ONCE="2", BUILDS_PER_REPOSITORY="1")
async def test_complaint_5_builds_keep_to_their_limit_whichever_provider_runs_them(own_cluster: ClusterWorld) -> None:
    slugs = [f"five-{number}" for number in range(6)]
    shas = [await own_cluster.commit(slug, App(build_slow=True)) for slug in slugs]
    async with own_cluster.second_provider(), most_builds(own_cluster, slugs) as seen:
        done = await asyncio.gather(*map(own_cluster.deploy, slugs, shas))
    assert all(one.built for one in done)
    assert max(seen) == 2


@with_settings(BUILDS_AT_ONCE="1")
async def test_complaint_5_a_cancelled_build_ends_and_then_the_next_begins(own_cluster: ClusterWorld) -> None:
    first, second, third = ("cancel-first", "cancel-second", "cancel-third")
    shas = {first: await own_cluster.commit(first, App(build_hangs=True))}
    shas |= {slug: await own_cluster.commit(slug) for slug in (second, third)}
    async with (
        most_builds(own_cluster, [first, second, third]) as seen,
        deploying(own_cluster, first, shas[first]) as one,
    ):
        await one.line("begun")
        async with deploying(own_cluster, second, shas[second]) as two:
            await queued(two, 1)
            async with deploying(own_cluster, third, shas[third]) as three:
                await queued(three, 2)
                await own_cluster.client.cancel(deploy_id=three.deploy_id)
                assert (await three.answer())["code"] == "cancelled"
            await own_cluster.client.cancel(deploy_id=one.deploy_id)
            assert (await one.answer())["code"] == "cancelled"
            await own_cluster.job_gone(first, shas[first])
            answer = await two.answer()
    assert (answer["ok"], answer["built"]) == (True, True)
    assert await own_cluster.builds_seen(f"preview-build-{third}-{shas[third][:8]}") == 0
    assert max(seen) == 1


@with_settings(DEPLOYS_AT_ONCE="1", QUEUE_LENGTH="1")
async def test_a_full_queue_promises_nothing_and_says_when_to_ask_again(own_cluster: ClusterWorld) -> None:
    shas = {slug: await own_cluster.commit(slug, App(build_hangs=slug == "full-a")) for slug in ("full-a", "full-b")}
    async with deploying(own_cluster, "full-a", shas["full-a"]) as one:
        await one.line("begun")
        async with deploying(own_cluster, "full-b", shas["full-b"]) as two:
            await queued(two, 1)
            failed = await refused(own_cluster.deploy("full-b", shas["full-b"], deploy_id="again"))
            assert (failed.code, failed.retryable, failed.whose) == ("queue_full", True, "platform")
            assert failed.reply["retry_after_seconds"] > 0
            assert (await refused(own_cluster.client.status(deploy_id="again"))).code == "not_found"
            repeated = asyncio.create_task(own_cluster.deploy("full-b", shas["full-b"], deploy_id=two.deploy_id))
            await own_cluster.client.cancel(deploy_id=one.deploy_id)
            assert (await two.answer())["ok"]
            assert (await repeated).commit_sha == shas["full-b"]

    async def taken() -> bool:
        return (await own_cluster.deploy("full-b", shas["full-b"], deploy_id="again")).commit_sha == shas["full-b"]

    await eventually(taken)


@with_settings(BUILDS_AT_ONCE="1")
async def test_who_waits_in_the_line_goes_on_when_its_provider_dies(own_cluster: ClusterWorld) -> None:
    first, sha = await own_cluster.commit("heir-first", App(build_slow=True)), await own_cluster.commit("heir")
    async with deploying(own_cluster, "heir-first", first) as one:
        await one.line("begun")
        async with deploying(own_cluster, "heir", sha) as two:
            await queued(two, 1)
            await own_cluster.provider.kill()
            await own_cluster.provider.start()
            assert (await one.answer())["ok"]
            assert (await two.answer())["built"]
