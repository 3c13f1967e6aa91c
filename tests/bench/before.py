"""The own share with many deploys under way, beside that of the provider before it was made to survive everything.

The earlier provider is taken out of this repository's history and runs on a stand-in of its own, with the bus, git
host and settings of its own; both are measured in turns, so that a busy machine slows both down.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.cluster import FULL, ClusterBench, ClusterSize, stand_in_world
from tests.bench.report import Row, median, p99
from tests.cluster.world import SOURCE

EARLIER = "5e7fbb8a1f0e"
"""The last commit before leases, lines, claims and reconciliation."""
AT_ONCE = 50
TARGET = 1.2


async def rows(*, rounds: int = 2, at_once: int = AT_ONCE, size: ClusterSize = FULL) -> list[Row]:
    """The median of the later provider's own shares over that of the earlier one's."""
    now: list[float] = []
    then: list[float] = []
    async with earlier_source() as source, stand_in_world() as new, stand_in_world({"PYTHONPATH": source}) as old:
        benches = [(ClusterBench(new, size), now), (ClusterBench(old, size), then)]
        for number in range(rounds):
            for bench, shares in benches if number % 2 else benches[::-1]:
                shares += await bench.own_shares(at_once)
    detail = (
        f"p50 {median(now):.0f} ms, before {median(then):.0f}; p99 {p99(now):.0f} ms, before {p99(then):.0f};"
        f" {len(now)} deploys each, {at_once} in flight"
    )
    name = "k8s: own share / before issue 4"
    return [Row(name, median(now) / median(then), TARGET, "ratio", detail, tuple(now))]


@asynccontextmanager
async def earlier_source() -> AsyncIterator[str]:
    """A folder with the earlier provider.

    Raises:
        LookupError: this clone has no history.
    """
    with tempfile.TemporaryDirectory(prefix="bench-earlier-") as folder:
        await asyncio.to_thread(_unpack, await _archived(), Path(folder))
        yield folder


async def _archived() -> bytes:
    git = await asyncio.create_subprocess_exec(
        "git", "-C", SOURCE, "archive", "--format=zip", EARLIER, "provider", "templates",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    archive, said = await git.communicate()
    if git.returncode:
        raise LookupError(f"this clone has no {EARLIER} to compare with (a shallow one?): {said.decode().strip()}")
    return archive


def _unpack(archive: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        packed.extractall(folder)
