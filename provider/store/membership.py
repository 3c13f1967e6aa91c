"""Which provider processes live: one heartbeat key each, judged by the observer's own clock.

Clocks of machines differ and processes are stopped for seconds, so nobody compares times: another process is dead when
its key did not change while this one looked at it again and again, or is gone, or says that it has left. Only the
store's own clock is believed, and not wholly: by it, who was silent already when this process came has had half its
time. A process that was taken for dead learns so by its next heartbeat, since its key is not as it left it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from provider.errors import Code, Permanent
from provider.models import Owner
from provider.store.kv import Entry, KeyValue, WrongRevision

log = structlog.get_logger(__name__)

_PREFIX = "instance."


class Lapsed(Exception):
    """The process was taken for dead: what it runs may be somebody else's by now."""


@dataclass(frozen=True, slots=True)
class Living:
    """The processes that live.

    Args:
        since: by name, the first epoch of the process that has the name now.
        left: those that ended by themselves a moment ago, by name and epoch. One of them may have come and gone
            between two looks.
    """

    since: Mapping[str, int]
    left: frozenset[tuple[str, int]] = frozenset()

    def has(self, owner: Owner) -> bool:
        """Whether that owner is one of them, and not an earlier process of the same name."""
        return owner.epoch >= self.since.get(owner.instance, owner.epoch + 1)

    def keeper(self, key: str) -> str:
        """The one that sees to `key`: the same in everybody's eyes, and few change when one comes or goes."""
        return max(self.since, key=lambda name: hashlib.sha256(f"{name}/{key}".encode()).digest())


@dataclass(slots=True)
class _Seen:
    revision: int
    quiet: float = 0.0


@dataclass(slots=True)
class Membership:
    """One process's own heartbeat, and its view of the others.

    Args:
        bucket: of the heartbeats; its revisions are the epochs.
        platform_id: of whose installation; others' heartbeats in the same bucket are not seen.
        name: of this process; who joins under the name of another takes its place.
        lease: seconds for which another may be silent; `beat` and `look` are to be called three times as often.
    """

    bucket: KeyValue
    platform_id: str
    name: str
    lease: float
    epoch: int = 0
    _since: int = 0
    _revision: int = 0
    _looked: float = 0.0
    _seen: dict[str, _Seen] = field(default_factory=dict)

    @property
    def owner(self) -> Owner:
        """What stands in the records of deploys that begin now."""
        return Owner(instance=self.name, epoch=self.epoch)

    async def join(self, *, alone: bool = False) -> None:
        """Begin a life, with an epoch above all there were. `alone`: whoever else was there is dead."""
        if alone:
            for entry in await self._entries():
                await self._bury(entry)
        while True:
            self.epoch = self._since = self._revision = await self.bucket.put(self._key, self._value(None))
            try:
                await self.beat()
            except Lapsed:  # taken for dead in this very moment
                continue
            return

    async def renew(self) -> int:
        """Begin an epoch above all there were, in the same life; returns it."""
        self.epoch = await self.beat()
        return self.epoch

    async def beat(self) -> int:
        """Say that this process lives; returns the revision. Raises `Lapsed`."""
        value = self._value(self._since)
        with suppress(WrongRevision):
            self._revision = await self.bucket.update(self._key, value, self._revision)
            return self._revision
        with suppress(WrongRevision):
            self._revision = await self.bucket.update(self._key, value, await self._own_revision())
            return self._revision
        raise Lapsed(self.name)

    async def leave(self) -> None:
        """End this life: others go on with what is unfinished, at once. They see it for as long as a lease."""
        value = self._value(self._since, left=True)
        with suppress(WrongRevision):
            await self.bucket.update(self._key, value, self._revision)
            return
        try:
            await self.bucket.update(self._key, value, await self._own_revision())
        except (WrongRevision, Lapsed):
            log.info("membership.not_left", instance=self.name)

    async def _own_revision(self) -> int:
        """The last of this life: a beat that seemed to fail, or was cut off, may have come through. Raises `Lapsed`."""
        entry = await self.bucket.get(self._key)
        if entry is None or self._first_epoch(entry) != self._since:
            raise Lapsed(self.name)
        return entry.revision

    async def look(self) -> Living:
        """Who lives. Call it every few seconds: quiet time counts only from one look to the next."""
        entries = await self._entries()
        at = time.monotonic()
        step, self._looked = min(at - self._looked, self.lease / 2), at
        beaten = max((entry.created for entry in entries if entry.key == self._key), default=None)
        seen = {entry.key: self._seen_again(entry, step, beaten) for entry in entries}
        self._seen = seen
        since, left = {self.name: self._since}, set[tuple[str, int]]()
        for entry in entries:
            name, epoch = entry.key.removeprefix(_PREFIX), self._first_epoch(entry) or 0
            if entry.key == self._key:
                continue
            if seen[entry.key].quiet >= self.lease:
                if not _has_left(entry):
                    log.warning("membership.lapsed", instance=name)
                await self._bury(entry)
            elif _has_left(entry):
                left.add((name, epoch))
            else:
                since[name] = epoch
        return Living(since, frozenset(left))

    def _seen_again(self, entry: Entry, step: float, beaten: datetime | None) -> _Seen:
        """`beaten`: when this process beat last; whoever lives has the time of a beat, and more, to show it."""
        before = self._seen.get(entry.key)
        if before is None:
            silent = (beaten - entry.created).total_seconds() if beaten is not None else 0.0
            return _Seen(entry.revision, min(max(silent, 0.0), self.lease / 2))
        return _Seen(entry.revision, before.quiet + step if before.revision == entry.revision else 0.0)

    async def _entries(self) -> list[Entry]:
        return [one for one in await self.bucket.entries(_PREFIX) if _read(one).get("platform_id") == self.platform_id]

    async def _bury(self, entry: Entry) -> None:
        """Remove a dead one's key, if it did not come to life since."""
        try:
            await self.bucket.delete(entry.key, entry.revision)
        except WrongRevision:
            log.info("membership.alive_after_all", instance=entry.key.removeprefix(_PREFIX))

    @property
    def _key(self) -> str:
        return _PREFIX + self.name

    def _value(self, since: int | None, *, left: bool = False) -> bytes:
        return json.dumps(
            {"platform_id": self.platform_id, "since": since, **({"left": True} if left else {})}
        ).encode()

    def _first_epoch(self, entry: Entry) -> int | None:
        found = _read(entry).get("since")
        return found if isinstance(found, int) else None


def _has_left(entry: Entry) -> bool:
    return _read(entry).get("left") is True


def _read(entry: Entry) -> dict[str, object]:
    try:
        found = json.loads(entry.value)
    except ValueError:
        raise Permanent(
            Code.INTERNAL_ERROR,
            f"{entry.key} is not a readable heartbeat.",
            reason="UnreadableRecord",
            hint="A provider of another version may have written it: run one version on a bus, or remove that key.",
        ) from None
    return found if isinstance(found, dict) else {}
