"""The kinds of values that the grammar is made of.

Each kind carries the one sentence that says what is allowed, so that every error of a field reads the same
whatever was wrong with it, and its JSON Schema, so that an editor says the same as the provider.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from provider.spec import quantities
from provider.spec.yaml_text import scalar_text

NOT_ALLOWED = "not_allowed"
"""Type of the errors that these kinds raise; `ctx["allowed"]` is the sentence."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _refuse(allowed: str) -> PydanticCustomError:
    return PydanticCustomError(NOT_ALLOWED, "allowed: {allowed}", {"allowed": allowed})


@dataclass(frozen=True, slots=True)
class Text:
    """Text that `valid` accepts; with `scalars` also numbers and booleans, as the file shows them."""

    allowed: str
    valid: Callable[[str], object]
    scalars: bool = False
    schema: dict[str, Any] = field(default_factory=dict, hash=False)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"] if self.scalars else "string", **self.schema}

    def _check(self, value: object) -> str:
        text = scalar_text(value) if self.scalars else value
        if not isinstance(text, str) or not self.valid(text):
            raise _refuse(self.allowed)
        return text


def pattern(regex: str, allowed: str) -> Text:
    """Text that matches `regex` as a whole."""
    return Text(allowed, re.compile(regex).fullmatch, schema={"pattern": f"^(?:{regex})$"})


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds; `3000.0`, `"3000"` and `true` are none."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def _check(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise _refuse(f"a whole number from {self.low} to {self.high}, without quotes")
        return int(value)


def _no_nul(text: str) -> bool:
    return "\0" not in text


def _one_line(text: str) -> bool:
    return not _CONTROL.search(text)


def _relative(text: str) -> bool:
    """Whether a path stays in the repository, and cannot be taken for an option of a command."""
    return bool(text) and not text.startswith(("/", "-", "~")) and ".." not in text.split("/") and _file_name(text)


def _file_name(text: str) -> bool:
    return _one_line(text) and "\\" not in text and len(text) <= 1024


def _mount_path(text: str) -> bool:
    """Whether a volume can be mounted there; the kernel's own trees and the root itself cannot be covered."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    usable = text.startswith("/") and _file_name(text) and ":" not in text and ".." not in parts
    return usable and bool(parts) and parts[0] not in ("proc", "sys") and parts != ["dev"]


SLUG = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
NAME = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
SECRET = r"[A-Za-z_][A-Za-z0-9_]{0,63}"  # noqa: S105 - the grammar of a name
SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+"

Slug = Annotated[
    str, pattern(SLUG, "1 to 63 of a-z, 0-9 and `-`, beginning with a letter and ending with a letter or digit")
]
FreeText = Annotated[str, Text("text", _no_nul)]
Value = Annotated[str, Text("text, a number, true or false; no NUL character", _no_nul, scalars=True)]
EnvName = Annotated[str, pattern(NAME, "1 to 128 letters, digits and `_`, not beginning with a digit")]
RepoPath = Annotated[
    str,
    Text(
        "a path relative to the repository's root, without `..`, `\\` and control characters, "
        "not beginning with `/`, `-` or `~`",
        _relative,
        schema={"minLength": 1, "maxLength": 1024, "pattern": r"^(?![/~-])(?!(?:.*/)?\.\.(?:/|$))[^\\]+$"},
    ),
]
MountPath = Annotated[
    str,
    Text(
        "an absolute path without `..`, `:`, `\\` and control characters; not `/`, `/dev` or below /proc or /sys",
        _mount_path,
        schema={"maxLength": 1024, "pattern": r"^/(?!(?:.*/)?\.\.(?:/|$))[^:\\]+$"},
    ),
]
UrlPrefix = Annotated[
    str,
    pattern(
        rf"(?=.{{1,1024}}$)/({SEGMENT}(/{SEGMENT})*/?)?",
        "a path beginning with `/`, its parts of letters, digits and `._~-`, without `..`",
    ),
]
UrlPath = Annotated[str, pattern(r"/[!-~]{0,1023}", "a path beginning with `/`, without spaces and control characters")]
VolumeName = Annotated[
    str,
    pattern(
        r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        "1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit",
    ),
]
HeaderName = Annotated[
    str, pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", "a header name: letters, digits and `-`, no spaces, no colon")
]
HeaderValue = Annotated[
    str, Text("text on one line, a number, true or false; no control characters", _one_line, scalars=True)
]
Quantity = Annotated[
    str,
    Text(
        'a Kubernetes quantity above zero, such as 200m, 0.5 or "1" for CPU, 512Mi or 1Gi for bytes',
        quantities.is_positive,
        scalars=True,
        schema={"type": ["string", "number"], "pattern": f"^{quantities.PATTERN}$"},
    ),
]
