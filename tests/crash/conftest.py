"""One arena a file, and how many points are gone through."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest

from tests.crash.arena import Arena, arena


@pytest.fixture(scope="module")
async def crash_arena(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arena]:
    """A world for providers to die in."""
    async with arena(tmp_path_factory.mktemp("arena")) as made:
        yield made
    gc.collect()  # what the dead held: nobody warns of that later


@pytest.fixture
def thinned(request: pytest.FixtureRequest) -> bool:
    """Whether some of the points are left out: all but those of `make crash`."""
    return not request.config.getoption("--every-crash-point")
