"""A place and a provider in it: shared by the session, or a provider of the test's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.canary import CANARY, Arguments, in_bytes, in_files
from tests.cluster.places import Place, place
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld, as_installed, cluster_world


@pytest.fixture(scope="session")
async def cluster_place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The stand-in or the real cluster: one for the session."""
    async with place(tmp_path_factory.mktemp("place")) as found:
        yield found


async def objects_with(place: Place, secrets: list[str]) -> list[str]:
    """The objects of both namespaces that hold one of the secrets, but for Secrets."""
    kinds = ("ConfigMap", "Deployment", "Event", "Ingress", "Job", "NetworkPolicy", "Pod", "ReplicaSet", "Service")
    places = [(kind, namespace) for kind in kinds for namespace in (place.previews, place.builds)]
    objects = [one for kind, namespace in places for one in await place.api.list(kind, namespace)]
    return [one["metadata"]["name"] for one in objects if in_bytes(json.dumps(one).encode(), secrets)]


@pytest.fixture
async def standin(cluster_place: Place) -> AsyncIterator[World]:
    """The stand-in, for tests that script faults; a real cluster takes no orders, so they are left out there."""
    if cluster_place.standin is None:
        pytest.skip("scripts faults")
    yield cluster_place.standin
    cluster_place.standin.api.faults.clear()


@pytest.fixture(scope="session")
async def cluster(cluster_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """The shared provider, started as it is in real life: name what you deploy uniquely, and leave it running."""
    async with cluster_world(cluster_place, tmp_path_factory.mktemp("world"), process=as_installed) as world:
        assert world.git.token is not None, "the git host wants it"
        secrets = [CANARY, world.settings["API_INTERNAL_TOKEN"], world.git.token.get_secret_value()]
        with Arguments(secrets) as arguments:
            yield world
        assert (in_files(world.folder, secrets, ("git",)), arguments.found) == ([], set())
        assert await objects_with(cluster_place, secrets) == []


@pytest.fixture(scope="session")
async def impatient(cluster_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """A shared provider that waits for a node for a second only."""
    own = {"PLATFORM_ID": "impatient", "UNSCHEDULABLE_GRACE": "1"}
    async with cluster_world(cluster_place, tmp_path_factory.mktemp("impatient"), own) as world:
        yield world


@pytest.fixture
async def own_cluster(
    request: pytest.FixtureRequest, cluster_place: Place, tmp_path: Path
) -> AsyncIterator[ClusterWorld]:
    """A provider of the test's own, as another installation in the same place; settings by `indirect`."""
    own = {"PLATFORM_ID": f"own-{tmp_path.name[:40]}", "LEASE_SECONDS": "2", "ROLLOUT_TIMEOUT": "400"}
    own |= getattr(request, "param", {})
    async with cluster_world(cluster_place, tmp_path, own, repeat_seconds=1.0) as world:
        yield world
