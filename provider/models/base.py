"""What all models share: immutability, secrets that never show, time, hashes, bounds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, SecretStr

MAX_LINE_CHARS = 1000


class Secret(SecretStr):
    """A value that never shows: `repr`, `str` and JSON are `***`."""

    def _display(self) -> str:
        return "***" if self.get_secret_value() else ""


class Frozen(BaseModel):
    """Base of everything here: immutable, and a mistyped field name is an error in our own code."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tolerant(BaseModel):
    """Base of what is read back from the store: a field that a later provider added is no error."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def clipped(lines: Iterable[str], most: int) -> tuple[str, ...]:
    """The last `most` lines, each shortened: what an app prints must not make a record too large to store."""
    return tuple(line[:MAX_LINE_CHARS] for line in tuple(lines)[-most:])


def digest_of(value: object) -> str:
    """A stable sha256 hex digest of JSON-able data."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
