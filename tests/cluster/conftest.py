"""A place and a provider in it: shared by the session, or a provider of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.places import Place, place
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld, as_installed, cluster_world


@pytest.fixture(scope="session")
async def cluster_place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The stand-in or the real cluster: one for the session."""
    async with place(tmp_path_factory.mktemp("place")) as found:
        yield found


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
        yield world


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
