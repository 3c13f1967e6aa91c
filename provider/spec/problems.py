"""How a mistake in the spec is told: where it is, what was found, what is allowed, what was probably meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz import fuzz, process

Path = tuple[str | int, ...]

_SHOWN = 60
_NEAR = 70.0
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,60}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `str` is its one line. An empty path means the file itself; lines and columns count from 1."""

    path: Path
    what: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @property
    def where(self) -> str:
        """The field and its line."""
        return f"{dotted(self.path) or 'the file'}{self._position()}"

    def _position(self) -> str:
        if self.line is None:
            return ""
        return (
            f" (line {self.line})" if self.path or self.column is None else f" (line {self.line}, column {self.column})"
        )


def dotted(path: Path) -> str:
    """`spec.env[2].from` for `("spec", "env", 2, "from")`; odd keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{shorten(part)}]"
    return text


def shorten(text: str, limit: int = _SHOWN, *, quote: bool = True) -> str:
    """`text` on one printable line of about `limit` characters, in JSON's quotes unless told otherwise."""
    cut = text[:limit] + ("…" if len(text) > limit else "")
    shown = json.dumps(cut, ensure_ascii=False) if quote else cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in shown)


def found(value: object) -> str:
    """What stands in the file, in a few words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return f"a mapping of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return shorten(value)
    return "true" if value is True else "false" if value is False else shorten(str(value), quote=False)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` was probably meant to be, if one is near enough; case and separators don't count."""
    if len(word) > _SHOWN:
        return None
    best = process.extractOne(word, list(choices), scorer=fuzz.ratio, processor=_letters, score_cutoff=_NEAR)
    return best[0] if best else None


def _letters(text: str) -> str:
    return re.sub(r"[\s_-]", "", text).casefold()


def did_you_mean(name: str | None) -> str:
    """The clause that names the nearest known name; empty if there is none."""
    return f"; did you mean `{name}`?" if name else ""
