"""What was really said, one file a row of the tables of causes: `unit/causes/<table>/<row>.txt`.

A file says where its words come from and what the hint that is made of them has to name; what was said follows `---`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

SAMPLES = Path(__file__).parent / "unit" / "causes"


class Sample(NamedTuple):
    """What was said, where, and what the hint has to name."""

    origin: str
    names: list[str]
    lines: list[str]


def sample(table: str, case: str) -> Sample:
    """The sample of a row."""
    head, _, said = (SAMPLES / table / f"{case}.txt").read_text().partition("\n---\n")
    told = yaml.safe_load(head)
    return Sample(told["origin"], told["names"], said.splitlines())
