"""A build that ended well is not done again, though nobody took down what came of it."""

from __future__ import annotations

import asyncio

from provider import names
from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused


async def _record_lost(world: ClusterWorld, slug: str) -> None:
    """The preview's record is gone, and with it what it knew of images."""
    bucket = await world.client.nats.jetstream().key_value(f"{world.client.subjects.bucket_prefix}_previews")
    await bucket.purge(f"preview.{slug}")


async def test_another_deploy_takes_the_image_of_a_job_that_ended(own_cluster: ClusterWorld) -> None:
    sha = await own_cluster.commit("once", App(body="once\n"))
    first = await own_cluster.deploy("once", sha)
    await _record_lost(own_cluster, "once")
    second = await own_cluster.deploy("once", sha)
    assert second.digest == first.digest
    assert await own_cluster.builds_seen(names.build_job("once", sha)) == 1


async def test_a_build_that_failed_is_done_again(own_cluster: ClusterWorld) -> None:
    sha = await own_cluster.commit("twice", App(build_exit=3))
    for _ in range(2):
        answer = await refused(own_cluster.deploy("twice", sha))
        assert answer.code == "kaniko_build_failed"
    assert await own_cluster.builds_seen(names.build_job("twice", sha)) == 2


async def test_a_build_that_ends_well_while_it_is_stopped_is_not_done_again(
    own_cluster: ClusterWorld, standin: World
) -> None:
    sha = await own_cluster.commit("photo", App(build_slow=True))
    job = names.build_job("photo", sha)
    held = standin.api.faults.hold(verb="delete", resource="jobs", times=1)
    running = asyncio.create_task(own_cluster.deploy("photo", sha))
    await own_cluster.job("photo", sha)
    stopping = asyncio.create_task(own_cluster.client.cancel(slug="photo"))
    await held.held()

    async def ended() -> bool:
        found = await own_cluster.place.api.get("Job", own_cluster.place.builds, job)
        return found is not None and bool(found.get("status", {}).get("succeeded"))

    await eventually(ended, what="the build ended well")
    standin.api.faults.lift(held)
    await stopping
    assert (await refused(running)).code == "cancelled"
    done = await own_cluster.deploy("photo", sha)
    assert (done.built, await own_cluster.builds_seen(job)) == (True, 1)
