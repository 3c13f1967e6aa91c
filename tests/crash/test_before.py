"""A provider dies just before each thing that it would have done: that does not happen."""

from __future__ import annotations

import pytest

from tests.crash.arena import Arena
from tests.crash.every import every_point
from tests.crash.gate import Side
from tests.telling import Tell


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_killed_before(crash_arena: Arena, thinned: bool, tell: Tell) -> None:
    findings = await every_point(crash_arena, Side.BEFORE, thinned=thinned)
    tell("\n".join([str(findings), *findings.missed]))
    assert findings.problems == []
