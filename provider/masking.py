"""Secret values out of sight: in every text that leaves, however they are written there. Pure.

A value is found as it is, with line breaks or other space in it, URL-encoded, in JSON or HTML, and inside base64,
also when that is part of a longer text. For that a text is looked at without its space, and once more with its
percent escapes decoded, and what is found is traced back to where it stands. In a stream, lines whose end may be the
beginning of a secret are held back until the next ones tell.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MASK = b"***"
SHORTEST = 4
"""Bytes of the shortest value that is masked: shorter ones stand in any text."""
LOOSE = 8
"""Bytes from which on a value is found with any space in it; a shorter one only with line breaks."""
SHORTEST_BASE64 = 6
HELD_BYTES = 64 << 10
HELD_LINES = 16
REMEMBERED = 12
"""Bytes of what was shown last: a beginning that is too short to be held back, perhaps in percent escapes."""
WORDS = frozenset({"true", "false", "null", "none", "test", "prod", "debug", "info", "production", "development"})
"""What stands in settings and in any log, and is no secret."""
_NUMBER = re.compile(r"[0-9]{1,5}(\.[0-9]+)?")
_SPACE = b" \t\r\n\v\f"
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_HALF_PERCENT = re.compile(rb"%[0-9A-Fa-f]?$")
_LINE = re.compile(rb"[^\n]+")
_BREAKS = re.compile(rb"[ \t\r\v\f]*\n[ \t\r\n\v\f]*")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Form:
    """One way in which a secret may be written, without its space; `strict`: only line breaks may be in it."""

    text: bytes
    strict: bool

    @property
    def enough(self) -> int:
        """Bytes of its beginning that are held back at the end of a line; fewer tell nothing."""
        return min(4, -(-len(self.text) // 4))


class _View:
    """A text as it is searched, without space; `spans` says which raw bytes each byte of it stands for."""

    def __init__(self, text: bytes, spans: Callable[[], list[Span]]) -> None:
        self.text = text
        self._spans = spans

    @cached_property
    def spans(self) -> list[Span]:
        """Worked out only where something was found."""
        return self._spans()

    def raw(self, start: int, end: int) -> Span:
        """What a part of the view is in the raw text."""
        return self.spans[start][0], self.spans[end - 1][1]


class Masker:
    """Masks some values; `idle` when there are none.

    Args:
        values: secret ones. What is too short, or a word that stands in any log, is left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms = sorted({form for value in values for form in _forms(value)}, key=lambda form: -len(form.text))
        self.idle = not self._forms
        self.longest = max((len(form.text) for form in self._forms), default=0)

    def text(self, text: str) -> str:
        """The text with every secret masked."""
        if self.idle or not text:
            return text
        raw = _bytes(text)
        spans = self.spans(raw)
        return _text(_masked(raw, spans)) if spans else text

    def lines(self, lines: Sequence[str]) -> list[str]:
        """The lines of one text; as many as before."""
        joined = "\n".join(lines)
        masked = self.text(joined)
        return list(lines) if masked is joined else masked.split("\n")

    def data(self, value: Any) -> Any:
        """JSON-able data with the secrets in its texts masked; a list of texts is taken as lines of one."""
        if self.idle:
            return value
        if type(value) is str:  # an enumeration's word is ours
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.data(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, str) and "\n" not in item for item in value):
                return type(value)(self.lines(value))
            return type(value)(map(self.data, value))
        return value

    def spans(self, raw: bytes) -> list[Span]:
        """Where secrets stand, in order, none touching another."""
        return _merged(span for view in _views(raw) for form in self._forms for span in _found(view, form, raw))

    def begun(self, raw: bytes) -> int | None:
        """Where the earliest thing stands that may be a secret's beginning, cut off by the text's end."""
        starts = [place for view in _views(raw) if (place := self._begun(view)) is not None]
        return min(starts, default=None)

    def _begun(self, view: _View) -> int | None:
        text = _HALF_PERCENT.sub(b"", view.text)
        earliest = len(text)
        for form in self._forms:
            opening = form.text[: form.enough]
            place = text.find(opening, max(0, len(text) - len(form.text) + 1))
            while 0 <= place < earliest:
                if form.text.startswith(text[place:]):
                    earliest = place
                    break
                place = text.find(opening, place + 1)
        return view.spans[earliest][0] if earliest < len(text) else None


class Everything(Masker):
    """Masks all that there is: the values are not known."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = False

    def spans(self, raw: bytes) -> list[Span]:
        """Each line."""
        return [(line.start(), line.end()) for line in _LINE.finditer(raw)]


class MaskedStream:
    """Masks a text whose lines come by and by.

    Args:
        masker: the masker to use now: what is secret may become more while the text comes.
    """

    def __init__(self, masker: Callable[[], Masker]) -> None:
        self._masker = masker
        self._held: list[str] = []
        self._before = b""

    def feed(self, lines: list[str]) -> list[str]:
        """Take lines; returns those that can be shown by now."""
        masker = self._masker()
        if masker.idle or not lines:
            return lines
        lines = [*self._held, *lines]
        self._held = []
        raw = self._before + _bytes("\n".join(lines))
        begun = masker.begun(raw)
        spans = masker.spans(raw)
        if begun is None:
            return self._shown(lines, raw, spans)
        first = _line_of(raw, begun, spans)
        held = lines[first:]
        if len(held) > masker.longest + HELD_LINES or sum(map(len, held)) > HELD_BYTES + 2 * masker.longest:
            return self._shown(lines, raw, _merged([*spans, (begun, len(raw))]))
        self._held = held
        if not first:
            return []
        cut = len(self._before) + len(_bytes("\n".join(lines[:first])))
        shown = self._shown(lines[:first], raw[:cut], [span for span in spans if span[1] <= cut])
        self._before = b""
        return shown

    def flush(self) -> list[str]:
        """The text has ended: what was held back is shown, masked."""
        masker, lines, self._held = self._masker(), self._held, []
        if not lines:
            return []
        raw = self._before + _bytes("\n".join(lines))
        return self._shown(lines, raw, masker.spans(raw))

    def _shown(self, lines: list[str], raw: bytes, spans: list[Span]) -> list[str]:
        """Lines with the spans masked; the last bytes are remembered: they may be the beginning of a beginning."""
        before = len(self._before)
        self._before = raw[-256:].translate(None, _SPACE)[-REMEMBERED:]
        # What began before these lines is masked from their beginning on.
        own = [(max(start, before), end) for start, end in spans if end > before]
        return _text(_masked(raw, own)[before:]).split("\n") if own else lines


def _forms(value: str) -> Iterable[_Form]:
    """The ways in which a value is looked for; none for what is too short or too common."""
    data = _bytes(value)
    plain = data.translate(None, _SPACE)
    if len(plain) < SHORTEST or value.strip().lower() in WORDS or _NUMBER.fullmatch(value.strip()):
        return
    strict = len(plain) < LOOSE and plain == data.strip(_SPACE)
    yield _Form(plain, strict)
    quoted = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], html.escape(value)
    for text in (*quoted, "+".join(value.split())):
        yield _Form(_bytes(text).translate(None, _SPACE), strict)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for encoded in _in_base64(data, encode):
            yield _Form(encoded, False)
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(_bytes(line).translate(None, _SPACE)) >= LOOSE:
                yield _Form(_bytes(line).translate(None, _SPACE), False)


def _in_base64(data: bytes, encode: Callable[[bytes], bytes]) -> Iterable[bytes]:
    """What of it does not depend on its neighbours, at each of the three places in a group of bytes."""
    yield encode(data)
    for shift in range(3):
        text = encode(b"\0" * shift + data)
        text = text[-(-8 * shift // 6) : 8 * (shift + len(data)) // 6]
        if len(text) >= SHORTEST_BASE64:
            yield text


def _views(raw: bytes) -> list[_View]:
    """The text without its space; and where it has percent escapes, that decoded."""
    bare = _View(
        raw.translate(None, _SPACE), lambda: [(at, at + 1) for at, byte in enumerate(raw) if byte not in _SPACE]
    )
    if b"%" not in bare.text:
        return [bare]
    pieces, whole = _PERCENT.split(bare.text), _PERCENT.split(raw)
    views = [bare, _decoded(pieces, lambda: bare.spans)]
    if len(whole) != len(pieces):  # a sign before a space is none, or one that a line break cut: both are tried
        views.append(_decoded(whole, lambda: [(at, at + 1) for at in range(len(raw))]))
    return views


def _decoded(pieces: list[bytes], below: Callable[[], list[Span]]) -> _View:
    """What was split at its escapes, with these decoded and without space; `below`: the spans of what was split."""
    text = b"".join(bytes([int(piece, 16)]) if odd % 2 else piece for odd, piece in enumerate(pieces))

    def spans() -> list[Span]:
        places, found, at = below(), list[Span](), 0
        for odd, piece in enumerate(pieces):
            if odd % 2:
                found.append((places[at][0], places[at + 2][1]))
                at += 3
            else:
                found += places[at : at + len(piece)]
                at += len(piece)
        return [span for span, byte in zip(found, text, strict=True) if byte not in _SPACE]

    return _View(text.translate(None, _SPACE), spans)


def _found(view: _View, form: _Form, raw: bytes) -> Iterable[Span]:
    place = view.text.find(form.text)
    while place >= 0:
        start, end = view.raw(place, place + len(form.text))
        if not form.strict or len(_BREAKS.sub(b"", raw[start:end]).split()) == 1:
            yield start, end
        place = view.text.find(form.text, place + 1)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same places in order, none overlapping another."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _line_of(raw: bytes, begun: int, spans: list[Span]) -> int:
    """The number of the first line to hold back: the one of `begun`, or an earlier one that a secret joins to it."""
    start = raw.rfind(b"\n", 0, begun) + 1
    for first, end in reversed(spans):
        if first < start < end:
            start = raw.rfind(b"\n", 0, first) + 1
    return raw.count(b"\n", 0, start)


def _masked(raw: bytes, spans: list[Span]) -> bytes:
    """The text with each span masked; line breaks in it stay."""
    parts, at = [], 0
    for start, end in spans:
        parts += [raw[at:start], MASK, b"\n" * raw.count(b"\n", start, end)]
        at = end
    return b"".join([*parts, raw[at:]])


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")
