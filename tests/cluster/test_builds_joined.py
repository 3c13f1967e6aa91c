"""A build that ended well is not done again, though nobody took down what came of it."""

from __future__ import annotations

from provider import names
from tests.cluster.apps import App
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import refused


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
