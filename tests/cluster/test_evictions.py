"""Pods that a node ended, and a deploy that nobody could go on with in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.apps import App
from tests.cluster.places import Place
from tests.cluster.standin.world import World
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld, cluster_world
from tests.e2e.helpers import eventually

BUDGET = 15.0
MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi."


def pods(world: World, slug: str, namespace: str) -> list[dict[str, Any]]:
    found = [one for one in world.store.list("Pod", namespace) if one["metadata"]["labels"].get("app") == slug]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


async def serving_pod(world: World, slug: str, namespace: str) -> str:
    live: list[dict[str, Any]] = []

    async def there() -> bool:
        live[:] = [one for one in pods(world, slug, namespace) if one.get("status", {}).get("phase") == "Running"]
        return bool(live)

    await eventually(there, what=f"a pod of {slug} runs")
    return str(live[-1]["metadata"]["name"])


async def test_an_eviction_of_long_ago_does_not_end_going_back_to_that_commit(
    cluster: ClusterWorld, standin: World
) -> None:
    """A serves, loses a pod to the node's memory at night, and gets another. Then B, then A again."""
    slug, where = "evicted-once", cluster.place.previews
    first = await cluster.app(slug, App(body="A\n"))
    standin.kubelet.evict(where, await serving_pod(standin, slug, where), MEMORY)

    async def replaced() -> bool:
        return {one["status"]["phase"] for one in pods(standin, slug, where)} == {"Failed", "Running"}

    await eventually(replaced, what="another pod took its place")
    await cluster.app(slug, App(body="B\n"))
    slow = standin.api.faults.slow_watch(5.0, resource="pods")  # a little behind the others, as watches are
    try:
        again = await cluster.deploy(slug, first.commit_sha)
    finally:
        standin.api.faults.lift(slow)
    assert await cluster.guest.text(again.url) == "A\n"


async def test_an_eviction_in_a_rollout_that_the_replica_set_mends_does_not_end_it(
    cluster: ClusterWorld, standin: World
) -> None:
    slug, where = "evicted-now", cluster.place.previews
    sha = await cluster.commit(slug, App(body="A\n", slow=True))
    running = asyncio.create_task(cluster.deploy(slug, sha))
    standin.kubelet.evict(where, await serving_pod(standin, slug, where), MEMORY)
    done = await running
    assert await cluster.guest.text(done.url) == "A\n"


@pytest.fixture(scope="module")
async def mortal(cluster_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    async with cluster_world(cluster_place, tmp_path_factory.mktemp("mortal"), {"PLATFORM_ID": "mortal-b"}) as world:
        yield world


@pytest.mark.timeout(120)
async def test_a_first_deploy_whose_budget_ends_while_no_provider_is_there_gets_no_traffic(
    mortal: ClusterWorld, standin: World
) -> None:
    """Its clock has run out when it is taken over: it is put right all the same (README, "On a cluster")."""
    slug = "late-takeover"
    sha = await mortal.commit(slug, App(body="never verified\n", late=True))
    acceptance = [{"path": "/late.html"}, {"path": "/is-not-there.html", "status": 200}]
    async with deploying(mortal, slug, sha, acceptance=acceptance, budget_seconds=BUDGET) as asker:
        await asker.phase("verify")
        await mortal.provider.kill()
        try:
            await asyncio.sleep(BUDGET + 1)  # what has to pass is time
        finally:
            await mortal.provider.start()
        answer = await asker.answer()
        assert answer["code"] == "budget_exceeded", answer
    assert f"Ingress/{slug}" not in await mortal.leftovers(slug), "it is put right before it is answered"
