"""The comparison as text: a table by scenario, what was accepted and why, and every difference with both answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.cluster.differential.compare import Comparison, Known, Verdict
from tests.cluster.differential.steps import Json

VERDICTS: tuple[Verdict, ...] = ("equal", "accepted", "different")
WIDEST = 400  # characters of an answer that are shown


def report(comparisons: Sequence[Comparison], known: Sequence[Known], *, wording: bool = False) -> Iterator[str]:
    """Lines. With `wording` also where only the sentences for people differ, which is no difference otherwise."""
    yield from _table(comparisons)
    yield from _accepted(comparisons, known)
    for one in comparisons:
        shown = [each for each in one.differences if wording or not each.wording]
        if not shown:
            continue
        yield f"\n{one.verdict.upper()} {one.step}"
        if one.standin["code"] != one.real["code"]:
            yield f"  stand-in {one.standin['code']}: {_short(one.standin['body'])}"
            yield f"  real     {one.real['code']}: {_short(one.real['body'])}"
            continue
        for each in shown:
            yield f"  {each.path}\n    stand-in {_short(each.standin)}\n    real     {_short(each.real)}"


def _table(comparisons: Sequence[Comparison]) -> Iterator[str]:
    counts: dict[str, Counter[Verdict]] = {}
    for one in comparisons:
        counts.setdefault(one.step.split("/")[0], Counter())[one.verdict] += 1
    yield _row("scenario", "compared", *VERDICTS)
    for scenario, count in counts.items():
        yield _row(scenario, count.total(), *(count[verdict] for verdict in VERDICTS))
    total = sum(counts.values(), Counter())
    yield _row("all", total.total(), *(total[verdict] for verdict in VERDICTS))
    sentences = sum(1 for one in comparisons if any(each.wording for each in one.differences))
    yield f"in other words, but with the same code, reason and fields: {sentences}"


def _accepted(comparisons: Sequence[Comparison], known: Sequence[Known]) -> Iterator[str]:
    used = Counter(each for one in comparisons for each in one.accepted)
    for each in known:
        count = used[each]
        yield f"accepted in {count} steps: {each.step} at {each.path}: {each.why}" if count else f"NOT SEEN: {each}"


def _row(name: str, *cells: object) -> str:
    return f"{name:<20}" + "".join(f"{cell!s:>11}" for cell in cells)


def _short(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}… ({len(text)} characters)"
