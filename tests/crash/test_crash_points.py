from __future__ import annotations
from pathlib import Path
import time
import pytest
from tests.crash.arena import arena
from tests.crash.gate import points
from tests.crash.scenarios import SCENARIOS, play


@pytest.mark.timeout(900)
async def test_all(tmp_path: Path) -> None:
    bad = 0
    async with arena(tmp_path) as world:
        chain = await world.chain()
        recorded = {}
        for name in SCENARIOS:
            began = time.monotonic()
            run = await play(chain, name, None)
            recorded[name] = points(run.effects)
            print(name, len(run.effects), run.problems, round(time.monotonic() - began, 2))
        print(await chain.provider.close())
        total = max(map(len, recorded.values()))
        count = 0; began = time.monotonic()
        for i in range(0, total, 1):
            chain = await world.chain()
            world.forget_events()
            for name, pts in recorded.items():
                point = pts[i] if i < len(pts) else None
                if point is None and name not in ("first deploy", "teardown", "redeploy"):
                    continue
                run = await play(chain, name, point)
                count += point is not None
                if run.problems or (point and not run.reached):
                    bad += 1
                    print("!!", i, name, point, run.reached, run.problems)
            left = await chain.provider.close()
            if left: print("left", left)
        print("points", count, "seconds", time.monotonic() - began, world.unhandled, world.standin.api.metrics.watches)
    assert not bad
