"""A provider that lost a preview changes nothing of it, however late it wakes up.

Of five deploys, each has another apply held back at the API server, as if slow on its way, and their provider is
stopped. Another goes on meanwhile: it tears the previews down, or deploys something newer. Then all come back.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(120)

PATCHES = [("patch", kind) for kind in ("networkpolicies", "services", "deployments", "ingresses")]
FIRST = [("create", "configmaps"), *PATCHES]
"""Of a preview's first deploy; and of one that changes what is there."""
AGAIN = [("update", "configmaps"), *PATCHES]
GRACE = 1.0
"""Seconds in which whatever a stale provider still does has to have shown."""


@asynccontextmanager
async def stopped_in(
    world: ClusterWorld, standin: World, name: str, first: App, applies: Sequence[tuple[str, str]]
) -> AsyncIterator[list[str]]:
    """One deploy for each of these requests; their provider is stopped while all of them are on their way."""
    name += "-again" * (applies is AGAIN)
    slugs, begun, held = [f"{name}-{resource}" for _, resource in applies], [], []
    process = world.provider.pid
    assert process is not None
    if applies is AGAIN:
        await asyncio.gather(*map(world.deploy, slugs))
    try:
        for slug, (verb, resource) in zip(slugs, applies, strict=True):
            sha = await world.commit(slug, first)
            begun.append(asyncio.create_task(world.deploy(slug, sha)))
            await world.job(slug, sha)  # what is held is not the dry run before it
            name = "*" if verb == "create" else f"{slug}*"
            held.append(standin.api.faults.hold(verb=verb, resource=resource, name=name, times=1))
            if verb == "create":  # who makes it is not told by its name: the only one who can, by now
                await held[-1].held()
        await asyncio.gather(*(one.held() for one in held))
        os.kill(process, signal.SIGSTOP)
        yield slugs
    finally:
        for one in held:
            standin.api.faults.lift(one)
        os.kill(process, signal.SIGCONT)
        await asyncio.gather(*begun, return_exceptions=True)


@pytest.mark.parametrize("applies", [FIRST, AGAIN], ids=["first", "again"])
async def test_after_a_teardown_nothing_comes_back(
    own_cluster: ClusterWorld, standin: World, applies: Sequence[tuple[str, str]]
) -> None:
    async with (
        stopped_in(own_cluster, standin, "stale", App(build_slow=True), applies) as slugs,
        own_cluster.second_provider(),
    ):
        await asyncio.gather(*map(own_cluster.client.teardown, slugs))
        await asyncio.gather(*map(own_cluster.nothing_left, slugs))
    await asyncio.gather(*map(own_cluster.nothing_left, slugs))
    await asyncio.sleep(GRACE)
    assert [await own_cluster.leftovers(slug) for slug in slugs] == [set()] * len(applies)


@pytest.mark.parametrize("applies", [FIRST, AGAIN], ids=["first", "again"])
async def test_after_a_newer_deploy_it_changes_nothing(
    own_cluster: ClusterWorld, standin: World, applies: Sequence[tuple[str, str]]
) -> None:
    async with (
        stopped_in(own_cluster, standin, "newer", App(body="stale\n", build_slow=True), applies) as slugs,
        own_cluster.second_provider(),
    ):
        newer = await asyncio.gather(*(own_cluster.app(slug, App(body="newer\n")) for slug in slugs))
        assert [await own_cluster.guest.text(one.url) for one in newer] == ["newer\n"] * len(applies)
        before = [await _spec(own_cluster, slug) for slug in slugs]
    await asyncio.sleep(GRACE)
    assert [await _spec(own_cluster, slug) for slug in slugs] == before
    assert [await own_cluster.guest.text(one.url) for one in newer] == ["newer\n"] * len(applies)


async def test_a_deploy_that_another_provider_took_over_ends_once(own_cluster: ClusterWorld, standin: World) -> None:
    async def ready() -> bool:
        return bool((await own_cluster.client.status("taken-deployments")).state == "ready")

    app, applies = App(body="taken\n", build_slow=True), [("patch", "deployments")]
    async with (
        stopped_in(own_cluster, standin, "taken", app, applies) as (slug,),
        own_cluster.second_provider(),
    ):
        await eventually(ready, what="the second provider finishes the deploy")
        before = await _spec(own_cluster, slug)
    await asyncio.sleep(GRACE)
    assert await _spec(own_cluster, slug) == before


async def _spec(world: ClusterWorld, slug: str) -> object:
    """What the preview's objects say, and whose they are."""
    found = []
    for kind in ("ConfigMap", "NetworkPolicy", "Service", "Deployment", "Ingress"):
        name = {"ConfigMap": f"{slug}.anchor", "NetworkPolicy": f"{slug}.network"}.get(kind, slug)
        one = await world.place.api.get(kind, world.place.previews, name)
        assert one is not None, f"{kind} {name}"
        found.append((one.get("spec"), one["metadata"]["annotations"]["preview.x1agent.io/generation"]))
    return found
