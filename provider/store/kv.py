"""A key-value bucket as the store needs it, and the one that lives in memory.

A prefix that ends with a dot stands for every key below it, any other for that key alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from provider.errors import Code, Permanent
from provider.models import now

MAX_VALUE_BYTES = 960 * 1024
OPERATIONS = ("get", "create", "update", "put", "delete", "purge", "entries", "watch")
"""The methods of a bucket by name, as its failures are told."""


class KeyExists(Exception):
    """A key that was to be created is there already."""


class WrongRevision(Exception):
    """A key was changed since the revision that the writer knows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's present value. `created` is when this revision was written, by the store's clock."""

    key: str
    value: bytes
    revision: int
    created: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key that is gone."""

    key: str


class KeyValue(Protocol):
    """One bucket. Revisions grow with every write to it, whatever the key."""

    async def get(self, key: str) -> Entry | None:
        """The key's present value, the last write's included."""

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that is not there; returns the revision. Raises `KeyExists`."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write a key that is still at `revision`; returns the new one. Raises `WrongRevision`."""

    async def put(self, key: str, value: bytes) -> int:
        """Write whatever is there; returns the revision."""

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove the key, if it is still at `revision`. Raises `WrongRevision`."""

    async def purge(self, key: str, revision: int) -> None:
        """As `delete`, but nothing is kept that tells of it: a watch may learn of it late."""

    async def entries(self, prefix: str) -> list[Entry]:
        """All present values below the prefix."""

    def watch(self, prefix: str) -> AsyncIterator[Entry | Deleted]:
        """What is there, then what changes; for ever, over restarts of the server."""


def matches(key: str, prefix: str) -> bool:
    """Whether `key` belongs to `prefix` (see above)."""
    return key.startswith(prefix) if prefix.endswith(".") else key == prefix


def check_size(key: str, value: bytes, limit: int) -> None:
    """Refuse a value that the bus would not carry: its client closes for good over one."""
    if len(value) > limit:
        raise Permanent(
            Code.INTERNAL_ERROR,
            f"The record {key} has {len(value)} bytes; at most {limit} can be stored.",
            reason="RecordTooLarge",
            hint="Make the spec and the request smaller, or raise max_payload of the bus.",
        )


class MemoryKeyValue:
    """A bucket that lasts as long as the process: for a bus without JetStream, and for tests."""

    def __init__(self, *, ttl: timedelta | None = None, max_value_bytes: int = MAX_VALUE_BYTES) -> None:
        self._entries: dict[str, Entry] = {}  # oldest write first, which is what expires first
        self._revision = 0
        self._ttl = ttl
        self._max_value_bytes = max_value_bytes
        self._watchers: dict[asyncio.Queue[Entry | Deleted], str] = {}

    async def get(self, key: str) -> Entry | None:
        """See `KeyValue`."""
        self._expire()
        return self._entries.get(key)

    async def create(self, key: str, value: bytes) -> int:
        """See `KeyValue`."""
        self._expire()
        if key in self._entries:
            raise KeyExists(key)
        return self._write(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """See `KeyValue`."""
        self._expire()
        self._check(key, revision)
        return self._write(key, value)

    async def put(self, key: str, value: bytes) -> int:
        """See `KeyValue`."""
        return self._write(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """See `KeyValue`."""
        if revision is not None:
            self._check(key, revision)
        if self._entries.pop(key, None) is not None:
            self._revision += 1
            self._tell(Deleted(key))

    async def purge(self, key: str, revision: int) -> None:
        """See `KeyValue`."""
        await self.delete(key, revision)

    async def entries(self, prefix: str) -> list[Entry]:
        """See `KeyValue`."""
        self._expire()
        return [entry for entry in self._entries.values() if matches(entry.key, prefix)]

    async def watch(self, prefix: str) -> AsyncIterator[Entry | Deleted]:
        """See `KeyValue`."""
        # Unbounded on purpose: a watcher that lost a change would have nothing to relist from.
        changes: asyncio.Queue[Entry | Deleted] = asyncio.Queue()
        self._watchers[changes] = prefix
        try:
            for entry in await self.entries(prefix):
                yield entry
            while True:
                yield await changes.get()
        finally:
            del self._watchers[changes]

    def _check(self, key: str, revision: int) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.revision != revision:
            raise WrongRevision(key)

    def _write(self, key: str, value: bytes) -> int:
        check_size(key, value, self._max_value_bytes)
        self._revision += 1
        self._entries.pop(key, None)
        self._entries[key] = entry = Entry(key, value, self._revision, now())
        self._tell(entry)
        return self._revision

    def _tell(self, change: Entry | Deleted) -> None:
        for changes, prefix in self._watchers.items():
            if matches(change.key, prefix):
                changes.put_nowait(change)

    def _expire(self) -> None:
        if self._ttl is None:
            return
        oldest_kept = now() - self._ttl
        for entry in list(self._entries.values()):
            if entry.created >= oldest_kept:
                return
            del self._entries[entry.key]
            self._tell(Deleted(entry.key))
