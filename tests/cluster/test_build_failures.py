"""Builds that come to no image, and what is done about it. What they are told as: the catalogue (tests/faults)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.cluster.apps import App
from tests.cluster.places import Place
from tests.cluster.standin.script import BuildScript
from tests.cluster.standin.world import World
from tests.cluster.test_failures import quota, told
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld, cluster_world
from tests.e2e.helpers import refused

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
async def hasty(cluster_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """A provider that gives a build little time: two seconds by the stand-in's clock."""
    own = {"PLATFORM_ID": "hasty", "BUILD_TIMEOUT": "40"}
    async with cluster_world(cluster_place, tmp_path_factory.mktemp("hasty"), own) as world:
        yield world


async def test_a_push_that_fails_is_tried_again(cluster: ClusterWorld, standin: World) -> None:
    slug = "build-push"
    sha = await cluster.commit(slug, App(body="pushed\n"))
    standin.scripts.build(f"preview-build-{slug}-*", BuildScript(push_failure="connection refused"))
    async with deploying(cluster, slug, sha) as asker:
        await asker.warning()
        assert "PushFailed" in str(asker.events) or "did not take it" in str(asker.events)
        standin.scripts.build(f"preview-build-{slug}-*", BuildScript())
        answer = await asker.answer()
    assert (answer["ok"], answer.get("built")) == (True, True), answer
    assert await cluster.guest.text(answer["url"]) == "pushed\n"


async def test_a_push_that_the_registry_refuses_is_told_after_one_build(cluster: ClusterWorld, standin: World) -> None:
    slug = "build-refused"
    sha = await cluster.commit(slug)
    words = "PUT http://registry/v2/: unexpected status code 405 Method Not Allowed: read only"
    standin.scripts.build(f"preview-build-{slug}-*", BuildScript(push_failure=words))
    failed = await refused(cluster.deploy(slug, sha))
    assert told(failed) == ("registry_unreachable", "PushRefused", "platform")
    assert not failed.retryable
    assert "read only" in failed.reply["message"]
    assert await cluster.builds_seen(f"preview-build-{slug}-{sha[:8]}") == 1


async def test_no_node_takes_the_build(impatient: ClusterWorld, standin: World) -> None:
    slug = "build-node"
    sha = await impatient.commit(slug)
    words = "0/1 nodes are available: 1 Insufficient cpu."
    standin.scripts.build(f"preview-build-{slug}-*", BuildScript(unschedulable=words))
    failed = await refused(impatient.deploy(slug, sha))
    assert told(failed) == ("kaniko_create_failed", "Unschedulable", "platform")
    assert words in failed.reply["message"]
    await impatient.job_gone(slug, sha)


async def test_a_build_that_takes_too_long(hasty: ClusterWorld) -> None:
    sha = await hasty.commit("build-long", App(build_hangs=True))
    failed = await refused(hasty.deploy("build-long", sha))
    assert told(failed) == ("job_timeout", "BuildDeadline", "user")
    assert any("begun" in line for line in failed.reply["log_tail"])


async def test_a_quota_that_has_no_room_for_the_job(cluster: ClusterWorld) -> None:
    async with quota(cluster, cluster.place.builds, **{"count/jobs.batch": "0"}):
        failed = await refused(cluster.app("build-jobs", App()))
    assert failed.code == "quota_exceeded"
    assert "exceeded quota: small" in str(failed.reply["evidence"])


async def test_a_quota_that_others_change_at_once(cluster: ClusterWorld, standin: World) -> None:
    """The API server gives up then, and says conflict: nothing was built, however often."""
    fault = standin.api.faults.error(409, verb="create", resource="jobs", times=4)
    assert (await cluster.app("contended", App())).built
    assert fault.struck == 4


async def test_a_job_that_somebody_deletes_is_made_again(cluster: ClusterWorld) -> None:
    slug = "build-deleted"
    sha = await cluster.commit(slug, App(body="built twice\n", build_slow=True))
    running = asyncio.create_task(cluster.deploy(slug, sha))
    job = (await cluster.job(slug, sha))["metadata"]
    await cluster.place.api.delete("Job", cluster.place.builds, job["name"])
    done = await running
    assert await cluster.guest.text(done.url) == "built twice\n"
    assert (await cluster.job(slug, sha))["metadata"]["uid"] != job["uid"]
