"""The policy file as it is now: read again whenever it changed, the last good one kept.

It is looked at by its status, not by events of the file system: a ConfigMap's mount changes by a symlink that is
swapped two folders further up, of which no event of the file itself tells.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

from provider.errors import Code, Permanent, Whose
from provider.models import digest_of
from provider.policy.grammar import Policy
from provider.policy.loader import load
from provider.spec import MAX_SPEC_BYTES

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
_Seen = tuple[int, int, int, int] | None


class WatchedPolicy:
    """One policy file, or none: then everything is allowed.

    Args:
        path: the file; None for no policy.

    Attributes:
        current: what is in force.
        problem: why the file as it is now is not.
        counting: held from when previews are counted until one more has its record.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: _Seen = None
        self.current: Policy | None = None
        self.problem: Permanent | None = None
        self.counting = asyncio.Lock()

    def open(self) -> None:
        """Read the file for the first time: without a good one, nobody knows what is allowed. Raises `Permanent`."""
        if self._path is not None:
            self._seen = _status(self._path)
            self._take(_read(self._path))

    async def once(self) -> None:
        """Read the file again if it changed; one with mistakes is told, and what was read before stays."""
        if self._path is None or (seen := _status(self._path)) == self._seen:
            return
        self._seen = seen
        try:
            self._take(_read(self._path))
        except Permanent as error:
            self.problem = error
            log.error("policy.not_taken", file=str(self._path), error=error.message, mistakes=error.evidence)

    @property
    def detail(self) -> str:
        """What is in force, in a few words."""
        if self.current is None:
            return "none: POLICY_FILE is not set"
        in_force = f"{len(self.current.rules)} rules, default {self.current.default}"
        return in_force if self.problem is None else f"the last good one is kept ({in_force}): {self.problem.message}"

    def _take(self, text: str) -> None:
        self.current, self.problem = load(text), None
        log.info("policy.taken", file=str(self._path), rules=len(self.current.rules), digest=digest_of(text)[:12])


def _status(path: Path) -> _Seen:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SPEC_BYTES + 1)
        return text.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is not UTF-8 text"
        raise Permanent(
            Code.INVALID_REQUEST,
            f"The policy file {path} cannot be read: {why}.",
            reason="PolicyUnreadable",
            hint="Check POLICY_FILE.",
            whose=Whose.PLATFORM,
        ) from None
