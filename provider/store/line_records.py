"""Where the line stands: one key of an installation, written by compare-and-set, watched by every provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from provider.errors import PreviewError
from provider.models import LineRecord, digest_of
from provider.store.encoding import decode, encode
from provider.store.kv import Deleted, Entry, KeyExists, KeyValue, WrongRevision

_KEY_CHARS = 12


class Overtaken(Exception):
    """Somebody else changed the line since it was read."""


@dataclass(frozen=True, slots=True)
class Known:
    """The line as it was at a revision; 0 where there is none yet."""

    line: LineRecord
    revision: int


class LineRecords:
    """The line of one installation; each has a key of its own, since several may share the bucket.

    Args:
        bucket: where deploy records are, so that orders and revisions of the line are of one sequence.
        platform_id: whose line it is.
    """

    def __init__(self, bucket: KeyValue, platform_id: str) -> None:
        self._bucket = bucket
        self._platform_id = platform_id
        self._key = f"line.{digest_of(platform_id)[:_KEY_CHARS]}"

    async def get(self) -> Known:
        """The present line. Raises `Permanent` when a newer provider wrote it."""
        return self._known(await self._bucket.get(self._key))

    async def write(self, line: LineRecord, revision: int) -> Known:
        """Write the line, if it is still at `revision`. Raises `Overtaken`."""
        value = encode(line)
        try:
            if revision:
                return Known(line, await self._bucket.update(self._key, value, revision))
            return Known(line, await self._bucket.create(self._key, value))
        except (KeyExists, WrongRevision):
            raise Overtaken from None

    async def watch(self) -> AsyncIterator[Known]:
        """The line as it is and as it changes; what cannot be read is left out, and stands in the log."""
        async for change in self._bucket.watch(self._key):
            try:
                yield self._known(None if isinstance(change, Deleted) else change)
            except PreviewError:
                continue

    def _known(self, entry: Entry | None) -> Known:
        if entry is None:
            return Known(LineRecord(platform_id=self._platform_id), 0)
        return Known(decode(entry, LineRecord), entry.revision)
