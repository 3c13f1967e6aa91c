"""Two normalised answers, side by side: where they differ, and whether that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from tests.cluster.differential.steps import Json

Verdict = Literal["equal", "accepted", "different"]
MISSING = "<missing>"


@dataclass(frozen=True)
class Known:
    """A difference that we accept: in steps like this (a shell pattern) and at this path, for this reason.

    In the path `*` is any one part, a last `**` all that is left.
    """

    step: str  # scenario/title
    path: str
    why: str

    def covers(self, step: str, difference: Difference) -> bool:
        parts, wanted = difference.path.split("."), self.path.split(".")
        if wanted[-1] == "**":
            parts, wanted = parts[: len(wanted) - 1], wanted[:-1]
        fits = len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        return fits and fnmatchcase(step, self.step)


@dataclass(frozen=True)
class Difference:
    """One place where the two answers are not the same."""

    path: str  # body.spec.ports.0.port
    standin: Json
    real: Json

    @property
    def wording(self) -> bool:
        """Only the sentence differs that a Status says to people; code, reason, fields are compared by themselves."""
        return self.path == "body.message" or (self.path.startswith("body.details.") and self.path.endswith(".message"))


@dataclass(frozen=True)
class Comparison:
    """What became of one step on both sides."""

    step: str
    standin: Json
    real: Json
    differences: Sequence[Difference]  # those that nobody accepted
    accepted: Sequence[Known]

    @property
    def verdict(self) -> Verdict:
        if any(not one.wording for one in self.differences):
            return "different"
        return "accepted" if self.accepted else "equal"


def compare(step: str, standin: Json, real: Json, known: Sequence[Known]) -> Comparison:
    """Everything that differs, sorted into what is known and what is not."""
    left: list[Difference] = []
    accepted: list[Known] = []
    for difference in differences(standin, real):
        cover = next((one for one in known if one.covers(step, difference)), None)
        if cover is None:
            left.append(difference)
        elif cover not in accepted:
            accepted.append(cover)
    return Comparison(step, standin, real, left, accepted)


def differences(standin: Json, real: Json, path: str = "") -> Iterator[Difference]:
    """The deepest places that differ; lists of different lengths are reported by length and then pair by pair."""
    if isinstance(standin, dict) and isinstance(real, dict):
        for key in sorted({*standin, *real}):
            yield from differences(standin.get(key, MISSING), real.get(key, MISSING), _below(path, key))
    elif isinstance(standin, list) and isinstance(real, list):
        if len(standin) != len(real):
            yield Difference(_below(path, "length"), len(standin), len(real))
        for index, (one, other) in enumerate(zip(standin, real, strict=False)):
            yield from differences(one, other, _below(path, str(index)))
    elif type(standin) is not type(real) or standin != real:
        yield Difference(path, standin, real)


def _below(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
