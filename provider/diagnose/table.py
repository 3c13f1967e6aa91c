"""A table of cases: what is said where something goes wrong → its cause, and what to change.

To add a case: a row in the table where its words are said, and a sample of that name in `tests/unit/causes/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import re2

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SHELL = r"(?:^|\s)\S*sh(?:: line \d+|: \d+)?: "
"""How a shell, or a script of one, begins what it says."""
MOST_TEXT = 256 << 10
MOST_VALUE = 120
MOST_MESSAGE = 600


class Case(NamedTuple):
    """One row.

    Args:
        name: its own, and its sample's.
        says: an expression of RE2 (linear, whatever a hostile log holds) that is searched line by line.
        reason: CamelCase, for programs; several rows may share one.
        hint: what to change, with the fields that the table's user fills in and the expression's groups: `{port}`.
        whose: who has to act.
        retryable: whether the same request may succeed later.
        code: where it is another one than the table's usual one.
    """

    name: str
    says: str
    reason: str
    hint: str
    whose: Whose = Whose.USER
    retryable: bool = False
    code: Code | None = None


class Match(NamedTuple):
    """A case that was found: the line that says it, and what its expression's groups hold."""

    case: Case
    line: str
    values: dict[str, str]

    def hint(self, facts: Mapping[str, object]) -> str:
        """The case's hint, filled in; a value of the log's own is cut, so that it stays a hint."""
        return self.case.hint.format_map({**facts, **self.values})


class Table:
    """Cases in order: the first whose words stand in the text is the cause."""

    def __init__(self, *cases: Case) -> None:
        self.cases = cases
        self._compiled: list[tuple[Any, Case]] = []

    def find(self, lines: Sequence[str]) -> Match | None:
        """The cause that these lines name; None where they name none that is known."""
        text = _COLOURS.sub("", "\n".join(lines)[-MOST_TEXT:])
        for expression, case in self._expressions():
            if (found := expression.search(text)) is not None:
                return Match(case, _line_at(text, found.start(), found.end()), _values(found.groupdict()))
        return None

    def _expressions(self) -> list[tuple[Any, Case]]:
        if not self._compiled:  # at the first failure: a provider that starts waits for none of them
            self._compiled = [(re2.compile(f"(?m){case.says}"), case) for case in self.cases]
        return self._compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a failure comes from. The phase is whose it is that asked.

    Args:
        message: one sentence.
        evidence: what was seen, most telling first.
        again: the runner tries the phase again, after `delay` seconds.
    """

    code: Code
    reason: str
    message: str
    hint: str
    evidence: tuple[str, ...] = ()
    whose: Whose = Whose.USER
    retryable: bool = False
    again: bool = False
    delay: float | None = None

    def error(self, log_tail: Sequence[str] = ()) -> PreviewError:
        """The error that callers see."""
        rest: dict[str, Any] = {
            "reason": self.reason,
            "hint": self.hint,
            "evidence": tuple(filter(None, self.evidence)),
            "log_tail": tuple(log_tail),
            "whose": self.whose,
            "retryable": self.retryable or self.again,
        }
        message = self.message[:MOST_MESSAGE]
        if self.again:
            return Temporary(self.code, message, delay=self.delay, **rest)
        return Permanent(self.code, message, **rest)


def _values(groups: Mapping[str, str | None]) -> dict[str, str]:
    """What the groups hold; those of one name with another number (`file`, `file2`) are alternatives."""
    values: dict[str, str] = {}
    for name, value in groups.items():
        key = name.rstrip("0123456789")
        values[key] = values.get(key) or " ".join((value or "").split())[:MOST_VALUE]
    return values


def _line_at(text: str, start: int, end: int) -> str:
    """The line around what was found, or what of it fits around."""
    begin = text.rfind("\n", 0, start) + 1
    until = text.find("\n", end)
    line = text[begin : until if until >= 0 else len(text)].strip()
    return line if len(line) <= 2 * MOST_VALUE else text[start:end][: 2 * MOST_VALUE].strip()
