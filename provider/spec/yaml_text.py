"""YAML text → plain data, for text that a stranger wrote.

PyYAML's own loaders resolve YAML 1.1 (`no` is a boolean, `0755` is 493), accept duplicate keys, recurse as
deep as the text says and expand aliases without limit. This reader works on the parser's events instead:
values follow YAML 1.2's core schema, a number keeps the text that stood in the file, depth and the number of
values are bounded (an alias counts as everything it stands for), and a tag never makes an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from provider.spec.problems import Path, Problem, shorten

MAX_SPEC_BYTES = 65536
MAX_DEPTH = 32
MAX_VALUES = 5_000

_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_COLLECTION_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"}
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")
_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, ten times as fast where PyYAML comes with it."""
_NOT_YAML = (yaml.YAMLError, ValueError, OverflowError)
"""PyYAML passes "\\UFFFFFFFF" and absurd version numbers on to chr() and int()."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Int(int):
    """A whole number that remembers how it was written (`0755`)."""

    text: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The number that `text` means in decimal."""
        number = cls(text)
        number.text = text
        return number


class Float(float):
    """A fraction that remembers how it was written (`1.10`)."""

    text: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The number that `text` means."""
        number = cls(text)
        number.text = text
        return number


def scalar_text(value: object) -> str | None:
    """The text of a YAML scalar as it stood in the file, or None for anything else (null as well)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Int | Float):
        return value.text
    return str(value) if isinstance(value, int | float) else None


class Refused(Exception):
    """The text cannot be read any further; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Document:
    """What the text says, the line of every path, and problems that did not end the reading."""

    data: Any
    lines: dict[Path, int]
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _Value:
    data: Any
    size: int = 1
    depth: int = 0


def read(text: str) -> Document:
    """The one document of `text`.

    Raises:
        Refused: too large, not YAML, too deep, too many values, or not exactly one document.
    """
    if len(text) > MAX_SPEC_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_SPEC_BYTES:
        raise Refused(Problem((), f"has more than {MAX_SPEC_BYTES} bytes; allowed: at most {MAX_SPEC_BYTES}"))
    if text.replace("\n", "").isprintable():  # both mean the same then; of tabs and the like they think differently
        with suppress(*_NOT_YAML):  # what is wrong is said by the other one, in its own words
            return _Reader(text, _QUICK).document()
    try:
        return _Reader(text, yaml.SafeLoader).document()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        what = f"holds the character {shorten(text[error.position : error.position + 1])}, which YAML does not allow"
        raise Refused(_at(before.count("\n") + 1, len(before) - before.rfind("\n"), what)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"is not valid YAML: {shorten(' '.join(filter(None, (error.context, error.problem))), 200, quote=False)}"
        raise Refused(_at(mark.line + 1, mark.column + 1, what) if mark else Problem((), what)) from None
    except _NOT_YAML:
        raise Refused(Problem((), "is not valid YAML: an escape or a number is out of range")) from None


def _at(line: int, column: int, what: str) -> Problem:
    return Problem((), what, line, column)


def _below(mark: yaml.Mark, what: str, path: Path = ()) -> Problem:
    return Problem(path, what, mark.line + 1, mark.column + 1)


@dataclass(slots=True)
class _Reader:
    """Builds data from events by a recursion that `MAX_DEPTH` bounds."""

    text: str
    loader: Any
    _events: Iterator[Any] = field(init=False)
    _anchors: dict[str, _Value] = field(default_factory=dict)
    _lines: dict[Path, int] = field(default_factory=dict)
    _problems: list[Problem] = field(default_factory=list)
    _size: int = 0

    def document(self) -> Document:
        """Read everything up to the end of the stream."""
        self._events = iter(yaml.parse(self.text, Loader=self.loader))
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise Refused(Problem((), "is empty"))
        value = self._value(next(self._events), (), 0)
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise Refused(_below(after.start_mark, "has more than one YAML document; allowed: one"))
        return Document(value.data, self._lines, self._problems)

    def _value(self, event: Any, path: Path, depth: int) -> _Value:
        self._lines[path] = event.start_mark.line + 1
        value = self._alias(event) if isinstance(event, yaml.AliasEvent) else self._fresh(event, path, depth)
        if depth + value.depth > MAX_DEPTH:
            raise Refused(_below(event.start_mark, f"is nested deeper than {MAX_DEPTH} levels"))
        return value

    def _fresh(self, event: Any, path: Path, depth: int) -> _Value:
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise Refused(_below(event.start_mark, f"is nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.ScalarEvent):
            value = _Value(self._scalar(event, path))
        else:
            if event.tag is not None and event.tag not in _COLLECTION_TAGS:
                self._refuse_tag(event, path)
            mapping = isinstance(event, yaml.MappingStartEvent)
            value = self._mapping(path, depth) if mapping else self._sequence(path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _count(self, values: int, event: Any) -> None:
        self._size += values
        if self._size > MAX_VALUES:
            raise Refused(_below(event.start_mark, f"has more than {MAX_VALUES} values, aliases expanded"))

    def _alias(self, event: Any) -> _Value:
        # An anchor is known only when its value is complete, so that a value never contains itself.
        value = self._anchors.get(event.anchor)
        if value is None:
            raise Refused(_below(event.start_mark, f"uses the alias *{shorten(event.anchor, quote=False)} before it"))
        self._count(value.size, event)
        return value

    def _sequence(self, path: Path, depth: int) -> _Value:
        items: list[_Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return _collection([item.data for item in items], items)

    def _mapping(self, path: Path, depth: int) -> _Value:
        data: dict[str, Any] = {}
        parts: list[_Value] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            below = (*path, key)
            known = key in data
            if known:
                what = f"is given twice, first on line {self._lines[below]}; allowed: each name once"
                self._problems.append(_below(event.start_mark, what, below))
            first_line = self._lines.get(below)
            parts.append(value := self._value(next(self._events), below, depth + 1))
            self._lines[below] = first_line if known and first_line else event.start_mark.line + 1
            data.setdefault(key, value.data)
        return _collection(data, parts)

    def _key(self, event: Any, path: Path) -> str:
        key = self._alias(event).data if isinstance(event, yaml.AliasEvent) else getattr(event, "value", None)
        if not isinstance(key, str):
            raise Refused(_below(event.start_mark, "has a name that is no text; allowed: plain names", path))
        if key == "<<":
            what = "merges with `<<`, which is not supported; allowed: the fields written out"
            self._problems.append(_below(event.start_mark, what, path))
        return self._unicode(key, event, path)

    def _scalar(self, event: Any, path: Path) -> Any:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self._refuse_tag(event, path)
        text = self._unicode(event.value, event, path)
        if event.tag is not None or event.style:  # libyaml calls the plain style ""
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INT.fullmatch(text):
            return Int.of(text)
        return Float.of(text) if _FLOAT.fullmatch(text) else text

    def _unicode(self, text: str, event: Any, path: Path) -> str:
        if not _SURROGATE.search(text):
            return text
        what = f"found {shorten(text)}; allowed: Unicode text, a surrogate is only half a character"
        self._problems.append(_below(event.start_mark, what, path))
        return _SURROGATE.sub("\ufffd", text)

    def _refuse_tag(self, event: Any, path: Path) -> None:
        what = f"has the tag {shorten(event.tag)}; allowed: no tags except !!str, !!map and !!seq"
        self._problems.append(_below(event.start_mark, what, path))


def _collection(data: Any, parts: list[_Value]) -> _Value:
    return _Value(data, 1 + sum(part.size for part in parts), 1 + max((part.depth for part in parts), default=0))
