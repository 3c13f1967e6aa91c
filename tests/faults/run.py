"""The whole catalogue: three worlds at once, each with its faults; see `fault.happen`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from provider.demo.world import local_world
from tests.cluster.places import Place, stand_in
from tests.cluster.test_failures import pod_security, quota
from tests.cluster.world import ClusterWorld, cluster_world
from tests.faults import apps, builds, cluster, outages, requests
from tests.faults.fault import Fault, Outcome, W, happen

ENGINE = "engine"
CLUSTER = "cluster"
QUICK = {"VERIFY_TIMEOUT": "2", "BUILD_MEMORY": builds.BUILD_MEMORY}
AT_ONCE = 12


def names() -> list[str]:
    """All faults, by name."""
    engine = (*requests.REQUESTS, *builds.BUILDS, *apps.APPS, *outages.OUTAGES)
    elsewhere = tuple(fault for _, fault in cluster.ELSEWHERE)
    administered = (cluster.POLICY, cluster.QUOTA, cluster.BUILD_QUOTA)
    on_cluster = (*cluster.BUILDS, *cluster.APPS, *administered, *elsewhere)
    return [fault.name for fault in engine] + [fault.name for fault in on_cluster]


async def catalogue(folder: Path, only: str = "") -> list[Outcome]:
    """Let every fault happen whose name holds `only`, or a part of that between commas; what came of them, in order."""
    found = await asyncio.gather(_engine(only), _outages(only), _cluster(folder, only))
    return [outcome for outcomes in found for outcome in outcomes]


def _chosen(faults: Iterable[Fault[W]], only: str) -> list[Fault[W]]:
    return [fault for fault in faults if any(part in fault.name for part in only.split(","))]


async def _engine(only: str) -> list[Outcome]:
    chosen = _chosen((*requests.REQUESTS, *apps.APPS, *builds.BUILDS), only)
    if not chosen:
        return []
    async with local_world(environment=QUICK) as world:
        return await happen(ENGINE, world, chosen, at_once=AT_ONCE)


async def _outages(only: str) -> list[Outcome]:
    chosen = _chosen(outages.OUTAGES, only)
    if not chosen:
        return []
    async with local_world(environment=outages.SETTINGS) as world:
        return await happen(ENGINE, world, chosen, at_once=1)


async def _cluster(folder: Path, only: str) -> list[Outcome]:
    place_folder = folder / "place"
    place_folder.mkdir()
    async with stand_in(place_folder) as place:
        return [*await _shared(place, folder, only), *await _elsewhere(place, folder, only)]


async def _shared(place: Place, folder: Path, only: str) -> list[Outcome]:
    """What one provider meets, then what an administrator does to it."""
    chosen = _chosen((*cluster.BUILDS, *cluster.APPS), only)
    administered = _chosen((cluster.POLICY, cluster.QUOTA, cluster.BUILD_QUOTA), only)
    if not chosen and not administered:
        return []
    async with cluster_world(place, _made(folder / "shared"), cluster.SETTINGS) as world:
        outcomes = await happen(CLUSTER, world, chosen, at_once=AT_ONCE)
        for fault in administered:
            outcomes += await _administered(place, world, fault)
        return outcomes


async def _administered(place: Place, world: ClusterWorld, fault: Fault[ClusterWorld]) -> list[Outcome]:
    means = {
        cluster.POLICY.name: pod_security(world, "restricted"),
        cluster.QUOTA.name: quota(world, place.previews, pods="0"),
        cluster.BUILD_QUOTA.name: quota(world, place.builds, pods="0"),
    }
    async with means[fault.name]:
        return await happen(CLUSTER, world, [fault], at_once=1)


async def _elsewhere(place: Place, folder: Path, only: str) -> list[Outcome]:
    """Providers that see the ingress otherwise, all at once."""

    async def one(settings: dict[str, str], fault: Fault[ClusterWorld]) -> list[Outcome]:
        own = {**cluster.SETTINGS, **settings, "PLATFORM_ID": fault.name}
        async with cluster_world(place, _made(folder / fault.name), own) as world:
            return await happen(CLUSTER, world, [fault], at_once=1)

    pairs = [pair for pair in cluster.ELSEWHERE if _chosen([pair[1]], only)]
    found = await asyncio.gather(*(one(*pair) for pair in pairs))
    return [outcome for outcomes in found for outcome in outcomes]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
