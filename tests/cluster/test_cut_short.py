"""Requests that are done although nobody waits for them any more, and refusals that nobody expected."""

from __future__ import annotations

import asyncio

import pytest

from provider import names
from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)


async def no_clone_secret(world: ClusterWorld, slug: str, sha: str) -> None:
    """Wait until the build's credentials are gone."""

    async def gone() -> bool:
        name = names.clone_secret(names.build_job(slug, sha))
        return await world.place.api.get("Secret", world.place.builds, name) is None

    await eventually(gone, what="the clone secret is gone")


@pytest.mark.parametrize("resource", ["jobs", "secrets"])
async def test_a_build_that_is_cancelled_while_it_is_made_leaves_nothing(
    cluster: ClusterWorld, standin: World, resource: str
) -> None:
    slug = f"cut-{resource}"
    sha = await cluster.commit(slug, App(build_hangs=True))
    held = standin.api.faults.hold(verb="create", resource=resource, namespace=cluster.place.builds, times=1)
    running = asyncio.create_task(cluster.deploy(slug, sha))
    await held.held()
    await cluster.client.cancel(slug=slug)
    assert (await refused(running)).code == "cancelled"
    standin.api.faults.lift(held)
    await asyncio.sleep(0.5)
    await cluster.job_gone(slug, sha)
    await no_clone_secret(cluster, slug, sha)


async def test_the_credentials_of_a_build_that_is_refused_go(cluster: ClusterWorld, standin: World) -> None:
    standin.api.faults.error(422, verb="create", resource="jobs", times=1)
    sha = await cluster.commit("norun")
    assert (await refused(cluster.deploy("norun", sha))).code == "kaniko_create_failed"
    await no_clone_secret(cluster, "norun", sha)


async def test_a_failed_build_is_kept_to_be_looked_at(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("keptjob", App(build_exit=3))
    await refused(cluster.deploy("keptjob", sha))
    assert (await cluster.job("keptjob", sha))["status"]["failed"] == 1


async def test_whoever_asked_is_answered_when_nothing_can_be_put_back(cluster: ClusterWorld, standin: World) -> None:
    standin.api.faults.error(403, verb="delete", resource="ingresses", name="notback")
    failed = await refused(cluster.app("notback", App(crash=4)))
    assert failed.code == "deployment_not_ready"
    assert any("could not be put back" in warning for warning in failed.reply["warnings"])


async def test_a_refusal_that_nobody_expected_is_told_in_the_clusters_words(
    cluster: ClusterWorld, standin: World
) -> None:
    await cluster.deploy("nodelete")
    fault = standin.api.faults.error(403, verb="delete", resource="configmaps")
    failed = await refused(cluster.client.teardown("nodelete"))
    standin.api.faults.lift(fault)
    assert failed.code == "teardown_failed"
    assert (await cluster.client.teardown("nodelete")).deleted != ()
