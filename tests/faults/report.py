"""The catalogue's outcomes as text."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.fault import Outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """A line a fault; what is wrong with one, and its hint, below it."""
    lines = []
    for one in outcomes:
        mark = "MISS" if one.wrong else "ok"
        lines.append(f"{mark:5}{one.where:8}{one.name:22}{one.told:60}{one.seconds:6.1f} s")
        lines += [f"     {wrong}" for wrong in one.wrong]
        if one.wrong:
            lines.append(f"     hint: {one.hint}")
    return "\n".join(lines)


def score(outcomes: Sequence[Outcome]) -> str:
    """How many are right, of how many, and where they happened."""
    right = [one for one in outcomes if not one.wrong]
    places = sorted({one.where for one in outcomes})
    where = ", ".join(f"{sum(one.where == place for one in outcomes)} on the {place}" for place in places)
    missed = ", ".join(one.name for one in outcomes if one.wrong)
    return f"{len(right)} of {len(outcomes)} faults told right ({where})" + (f"; missed: {missed}" if missed else "")
