"""A provider on the container engine dies at some of the things that it does: SIGKILL, and the next one starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.engine import FEW_LIVES, LIVES, engine_arena, some_points
from tests.telling import Tell


@pytest.mark.timeout(1200)
async def test_killed_on_the_engine(tmp_path: Path, thinned: bool, tell: Tell) -> None:
    async with engine_arena(tmp_path) as at:
        findings = await some_points(at, FEW_LIVES if thinned else LIVES)
    tell("\n".join([str(findings), *findings.missed]))
    assert findings.problems == []
