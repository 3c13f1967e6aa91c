"""Every third fault of the catalogue is told by its code, its reason, whose it is, and what to change.

All of them, which take three minutes of two cores, are `make faults`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import score, table
from tests.faults.run import catalogue, names
from tests.telling import Tell

LEAST = 60


@pytest.mark.timeout(600)
async def test_faults_are_told_right(tmp_path: Path, tell: Tell) -> None:
    some = names()[::3]
    outcomes = await catalogue(tmp_path, ",".join(some))
    missed = [one for one in outcomes if one.wrong]
    tell(score(outcomes))
    assert missed == [], table(missed)
    assert {one.name for one in outcomes} >= set(some)


def test_there_are_enough_and_each_has_a_name() -> None:
    assert len(set(names())) == len(names()) >= LEAST
