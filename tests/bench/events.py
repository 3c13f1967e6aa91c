"""What events add to a deploy: first deploys by a provider that tells them, and by one that does not, in turns.

Each has a stand-in of its own. The silent one is the same program, but its `EventPublisher.publish` does nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.cluster import FULL, ClusterBench, Deploy, stand_in_world
from tests.bench.report import Row, median
from tests.cluster.world import SOURCE

DEPLOYS = 40
SILENCE = """\
from provider.bus.events import EventPublisher

EventPublisher.publish = lambda *event: None
"""


async def rows(*, deploys: int = DEPLOYS) -> list[Row]:
    """The difference of the medians of their own shares."""
    loud: list[Deploy] = []
    quiet: list[Deploy] = []
    with silent_source() as source:
        async with stand_in_world() as telling, stand_in_world({"PYTHONPATH": source}) as silent:
            benches = [(ClusterBench(telling, FULL), loud), (ClusterBench(silent, FULL), quiet)]
            for number in range(deploys):
                for bench, done in benches if number % 2 else benches[::-1]:
                    done.append(await bench.first_deploy())
            shares = [[one.own(await bench.figures()) for one in done] for bench, done in benches]
    own, without = (median(values[2:]) for values in shares)
    detail = f"p50 of {deploys}: {own:.1f} ms, without them {without:.1f} ms"
    return [Row("k8s: own share that events add", own - without, 5, "ms", detail)]


@contextmanager
def silent_source() -> Iterator[str]:
    """A search path for Python with which the provider tells no events."""
    with tempfile.TemporaryDirectory(prefix="bench-silent-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(SILENCE)
        yield f"{folder}:{SOURCE}"
