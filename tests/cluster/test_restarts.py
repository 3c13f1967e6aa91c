"""The provider is killed in each phase and started again: nobody who asked notices more than a delay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from provider import names
from tests.cluster.apps import App
from tests.cluster.places import Place
from tests.cluster.standin.faults import Fault
from tests.cluster.standin.world import World
from tests.cluster.watching import Asker, asked, deploying
from tests.cluster.world import ClusterWorld, cluster_world
from tests.e2e.helpers import eventually

LATE = [{"path": "/late.html"}]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
async def mortal(cluster_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """A provider for these tests alone; each leaves it running."""
    own = {"PLATFORM_ID": "mortal"}
    async with cluster_world(cluster_place, tmp_path_factory.mktemp("mortal"), own) as world:
        yield world


async def killed(world: ClusterWorld) -> None:
    """Killed, and another one started."""
    await world.provider.kill()
    await world.provider.start()


async def good_answer(world: ClusterWorld, asker: Asker, slug: str, sha: str, body: str, **fields: Any) -> None:
    """The asker got one answer, it is true, one build was made, and who asks again hears the same."""
    answer = await asker.answer()
    assert (answer["ok"], answer.get("commit_sha"), answer.get("built")) == (True, sha, True), answer
    assert await world.guest.text(answer["url"]) == body
    job = await world.job(slug, sha)
    assert job["metadata"]["annotations"]["preview.x1agent.io/deploy-id"] == asker.deploy_id
    assert await world.builds_seen(job["metadata"]["name"]) == 1
    again = await world.deploy(slug, sha, deploy_id=asker.deploy_id, **fields)
    assert (again.deploy_id, again.digest) == (asker.deploy_id, answer["digest"])
    assert len({str(one) for one in asker.answers}) == 1


@asynccontextmanager
async def killed_at(world: ClusterWorld, held: Fault) -> AsyncIterator[None]:
    """Killed as soon as the API server holds a request of its."""
    await held.held()
    await world.provider.kill()
    held.release()
    try:
        yield
    finally:
        if world.provider.pid is None:
            await world.provider.start()


@pytest.mark.parametrize("phase", ["resolve", "admit", "rollout"])
async def test_killed_as_a_phase_begins(mortal: ClusterWorld, phase: str) -> None:
    slug = f"kill-{phase}"
    sha = await mortal.commit(slug, App(body=f"{phase}\n", slow=True))
    async with deploying(mortal, slug, sha) as asker:
        await asker.phase(phase)
        await killed(mortal)
        await good_answer(mortal, asker, slug, sha, f"{phase}\n")


async def test_killed_in_the_build(mortal: ClusterWorld) -> None:
    sha = await mortal.commit("kill-build", App(body="built once\n", build_slow=True))
    async with deploying(mortal, "kill-build", sha) as asker:
        await asker.line("begun")
        uid = (await mortal.job("kill-build", sha))["metadata"]["uid"]
        await killed(mortal)
        await good_answer(mortal, asker, "kill-build", sha, "built once\n")
        assert (await mortal.job("kill-build", sha))["metadata"]["uid"] == uid, "joined"


async def test_a_build_ends_while_no_provider_is_there(mortal: ClusterWorld) -> None:
    sha = await mortal.commit("kill-alone", App(body="alone\n", build_slow=True))
    async with deploying(mortal, "kill-alone", sha) as asker:
        await asker.line("begun")
        await mortal.provider.kill()

        async def complete() -> bool:
            return bool((await mortal.job("kill-alone", sha))["status"].get("succeeded"))

        try:
            await eventually(complete, what="the build ends")
        finally:
            await mortal.provider.start()
        await good_answer(mortal, asker, "kill-alone", sha, "alone\n")


async def test_a_build_fails_while_no_provider_is_there(mortal: ClusterWorld) -> None:
    sha = await mortal.commit("kill-failed", App(build_slow=True, build_exit=3))
    async with deploying(mortal, "kill-failed", sha) as asker:
        await asker.line("begun")
        uid = (await mortal.job("kill-failed", sha))["metadata"]["uid"]
        await mortal.provider.kill()

        async def failed() -> bool:
            return bool((await mortal.job("kill-failed", sha))["status"].get("failed"))

        try:
            await eventually(failed, what="the build fails")
        finally:
            await mortal.provider.start()
        answer = await asker.answer()
        assert (answer["code"], answer["reason"]) == ("kaniko_build_failed", "RunFailed")
        assert any("begun" in line for line in answer["log_tail"])
        assert (await mortal.job("kill-failed", sha))["metadata"]["uid"] == uid, "not built again"


async def test_killed_while_the_job_is_made(mortal: ClusterWorld, standin: World) -> None:
    """The Job is there, but whoever made it never heard so; nor does its Secret know its owner."""
    slug = "kill-create"
    sha = await mortal.commit(slug, App(body="created\n"))
    held = standin.api.faults.hold(verb="patch", resource="secrets", name=f"preview-build-{slug}-*", times=1)
    async with deploying(mortal, slug, sha) as asker, killed_at(mortal, held):
        await mortal.provider.start()
        await good_answer(mortal, asker, slug, sha, "created\n")
    await mortal.client.teardown(slug)

    async def no_credentials() -> bool:
        return names.clone_secret(names.build_job(slug, sha)) not in await mortal.place.api.names(
            "Secret", mortal.place.builds
        )

    await eventually(no_credentials, what="the credentials go, too")


@pytest.mark.parametrize("resource", ["networkpolicies", "deployments", "ingresses"])
async def test_killed_between_two_applies(mortal: ClusterWorld, standin: World, resource: str) -> None:
    slug = f"kill-{resource}"
    await mortal.app(slug, App(body="before\n"))
    sha = await mortal.commit(slug, App(body="after\n", build_slow=True))
    async with deploying(mortal, slug, sha) as asker:
        await asker.line("begun")  # not the dry run of `admit`
        named = names.network_policy(slug) if resource == "networkpolicies" else slug
        held = standin.api.faults.hold(verb="patch", resource=resource, name=named, times=1)
        async with killed_at(mortal, held):
            # The Deployment is applied before the Ingress, so that its new pod may serve already.
            seen = {"before\n", "after\n"} if resource == "ingresses" else {"before\n"}
            assert await mortal.guest.text(f"https://{slug}.preview.test") in seen
            await mortal.provider.start()
            await good_answer(mortal, asker, slug, sha, "after\n")


async def test_killed_while_the_url_is_checked(mortal: ClusterWorld) -> None:
    sha = await mortal.commit("kill-verify", App(body="late\n", late=True))
    async with deploying(mortal, "kill-verify", sha, acceptance=LATE) as asker:
        await asker.phase("verify")
        await killed(mortal)
        await good_answer(mortal, asker, "kill-verify", sha, "late\n", acceptance=LATE)


async def test_killed_while_the_last_good_is_put_back(mortal: ClusterWorld, standin: World) -> None:
    slug = "kill-restore"
    good = await mortal.app(slug, App(body="good\n"))
    sha = await mortal.commit(slug, App(body="bad\n", crash=3, build_slow=True))
    async with deploying(mortal, slug, sha) as asker:
        await asker.phase("rollout")
        held = standin.api.faults.hold(verb="patch", resource="deployments", name=slug, times=1)
        async with killed_at(mortal, held):
            await mortal.provider.start()
            answer = await asker.answer()
            assert (answer["code"], answer["reason"]) == ("deployment_not_ready", "CrashLoop")
            assert answer["still_serving"] == good.commit_sha
            assert await mortal.guest.text(good.url) == "good\n"


@pytest.mark.parametrize("resource", ["configmaps", "deployments"])
async def test_killed_in_a_teardown(mortal: ClusterWorld, standin: World, resource: str) -> None:
    """Before the anchor goes, and after: whoever comes next finishes it, though nobody asks again."""
    slug = f"kill-gone-{resource}"
    await mortal.deploy(slug, extra_env={"A": "1"})
    named = names.anchor(slug) if resource == "configmaps" else slug
    held = standin.api.faults.hold(verb="delete", resource=resource, name=named, times=1)
    async with asked(mortal, "teardown", slug=slug), killed_at(mortal, held):
        assert await mortal.leftovers(slug) != set()
        await mortal.provider.start()
        await mortal.nothing_left(slug)
    assert (await mortal.client.teardown(slug)).deleted == ()
