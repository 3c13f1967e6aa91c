"""A provider that lost a preview changes nothing of it, however late it wakes up.

Each apply of a deploy is held back at the API server, as if it had been slow on its way, and its provider stopped.
Another provider goes on meanwhile: it tears the preview down, or deploys something newer. Then both come back.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.cluster.apps import App
from tests.cluster.standin.faults import Fault
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(120)

APPLIES = [
    ("create", "configmaps"),
    ("patch", "networkpolicies"),
    ("patch", "services"),
    ("patch", "deployments"),
    ("patch", "ingresses"),
]
GRACE = 1.0
"""Seconds in which whatever a stale provider still does has to have shown."""


@asynccontextmanager
async def stopped_before(
    world: ClusterWorld, standin: World, slug: str, verb: str, resource: str, first: App
) -> AsyncIterator[Fault]:
    """A deploy whose provider is stopped while that request of it is on its way."""
    sha = await world.commit(slug, first)
    begun = asyncio.create_task(world.deploy(slug, sha))
    await world.job(slug, sha)
    held = standin.api.faults.hold(verb=verb, resource=resource, name=f"{slug}*" if verb == "patch" else "*", times=1)
    process = world.provider.pid
    assert process is not None
    try:
        async with asyncio.timeout(30):
            await held.held()
        os.kill(process, signal.SIGSTOP)
        yield held
    finally:
        standin.api.faults.lift(held)
        os.kill(process, signal.SIGCONT)
        await asyncio.gather(begun, return_exceptions=True)


@pytest.mark.parametrize(("verb", "resource"), APPLIES)
async def test_after_a_teardown_nothing_comes_back(
    own_cluster: ClusterWorld, standin: World, verb: str, resource: str
) -> None:
    slug = f"stale-{resource}"
    async with (
        stopped_before(own_cluster, standin, slug, verb, resource, App(build_slow=True)),
        own_cluster.second_provider(),
    ):
        await own_cluster.client.teardown(slug)
        await own_cluster.nothing_left(slug)
    await own_cluster.nothing_left(slug)
    await asyncio.sleep(GRACE)
    assert await own_cluster.leftovers(slug) == set()


@pytest.mark.parametrize(("verb", "resource"), APPLIES)
async def test_after_a_newer_deploy_it_changes_nothing(
    own_cluster: ClusterWorld, standin: World, verb: str, resource: str
) -> None:
    slug = f"newer-{resource}"
    async with (
        stopped_before(own_cluster, standin, slug, verb, resource, App(body="stale\n", build_slow=True)),
        own_cluster.second_provider(),
    ):
        newer = await own_cluster.app(slug, App(body="newer\n"))
        assert await own_cluster.guest.text(newer.url) == "newer\n"
        before = await _spec(own_cluster, slug)
    await asyncio.sleep(GRACE)
    assert await _spec(own_cluster, slug) == before
    assert await own_cluster.guest.text(newer.url) == "newer\n"


async def test_a_deploy_that_another_provider_took_over_ends_once(own_cluster: ClusterWorld, standin: World) -> None:
    async def ready() -> bool:
        return bool((await own_cluster.client.status(slug="taken")).state == "ready")

    async with (
        stopped_before(own_cluster, standin, "taken", "patch", "deployments", App(body="taken\n", build_slow=True)),
        own_cluster.second_provider(),
    ):
        await eventually(ready, what="the second provider finishes the deploy")
        before = await _spec(own_cluster, "taken")
    await asyncio.sleep(GRACE)
    assert await _spec(own_cluster, "taken") == before


async def _spec(world: ClusterWorld, slug: str) -> object:
    """What the preview's objects say, and whose they are."""
    found = []
    for kind in ("ConfigMap", "NetworkPolicy", "Service", "Deployment", "Ingress"):
        name = {"ConfigMap": f"{slug}.anchor", "NetworkPolicy": f"{slug}.network"}.get(kind, slug)
        one = await world.place.api.get(kind, world.place.previews, name)
        assert one is not None, f"{kind} {name}"
        found.append((one.get("spec"), one["metadata"]["annotations"]["preview.x1agent.io/generation"]))
    return found
