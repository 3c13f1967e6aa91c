"""The store: what a record is, whose it is, and who may write it when.

Preview records change only through `change_preview`, deploy records only by their owner. Both rules
are compare-and-set on the bucket's revisions, so that they hold between processes too.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import DeployRecord, PreviewOutline, PreviewRecord, now
from provider.store.approvals import Approvals
from provider.store.cancels import Cancels
from provider.store.encoding import Record, decode, encode, stamp
from provider.store.kv import Deleted, Entry, KeyExists, KeyValue, MemoryKeyValue, WrongRevision
from provider.store.line_records import LineRecords
from provider.store.membership import Membership

log = structlog.get_logger(__name__)

DEPLOY_TTL = timedelta(hours=48)
_ATTEMPTS = 30
_LONGEST_PAUSE = 0.25
_MOST_WROTE = 64

Reducer = Callable[[PreviewRecord | None], PreviewRecord]


class DeployExists(Exception):
    """There is a deploy of that id already: a repeated request, or a mistaken one."""

    def __init__(self, existing: DeployRecord) -> None:
        super().__init__(existing.deploy_id)
        self.existing = existing


class Lost(Exception):
    """Another instance owns the deploy now; whoever gets this stops working on it."""


class Store:
    """Records of one installation; another's in the same buckets are neither returned nor touched.

    Args:
        previews, deploys: the two buckets. Orders are revisions of `deploys`.
        platform_id: whose records these are.
    """

    def __init__(self, *, previews: KeyValue, deploys: KeyValue, platform_id: str) -> None:
        self._previews = previews
        self._deploys = deploys
        self._platform_id = platform_id
        self._owned: dict[str, int] = {}
        self._listed: dict[str, int] = {}
        self._wrote: dict[str, tuple[PreviewRecord, int]] = {}
        self.line = LineRecords(deploys, platform_id)
        self.cancels = Cancels(deploys, platform_id)
        self.approvals = Approvals(deploys, platform_id)

    # ------------------------------------------------------------------------- deploys

    async def create_deploy(self, record: DeployRecord) -> DeployRecord:
        """Accept a deploy; returns it with its order. Raises `DeployExists`.

        Repeated with the very same record after a lost answer, it succeeds.
        """
        key, value = f"deploy.{record.deploy_id}", encode(record)
        try:
            revision = await self._deploys.create(key, value)
        except KeyExists:
            entry = await self._deploys.get(key)
            if entry is None:
                raise Temporary(
                    Code.PLATFORM_UNREACHABLE,
                    f"{key} vanished.",
                    reason="StoreContended",
                    hint="Ask again; if it happens again, the provider's log says more.",
                ) from None
            if entry.value != value:
                raise DeployExists(self._deploy(self._own(entry, DeployRecord), entry)) from None
            revision = entry.revision
        self._owned[record.deploy_id] = revision
        return record.model_copy(update={"order": revision})

    async def get_deploy(self, deploy_id: str) -> DeployRecord | None:
        """The deploy, or None. Reading gives no right to write: see `save_deploy`."""
        entry = await self._deploys.get(f"deploy.{deploy_id}")
        record = self._mine(entry, DeployRecord)
        return self._deploy(record, entry) if record and entry else None

    async def save_deploy(self, record: DeployRecord) -> None:
        """Write a deploy that this process created, saved before, or takes over.

        The first save of a deploy that `unfinished_deploys` returned takes it over when nobody wrote it
        since. Raises `Lost` when another owner did.
        """
        key, value = f"deploy.{record.deploy_id}", encode(record)
        revision = self._owned.get(record.deploy_id) or self._listed.pop(record.deploy_id, None)
        for _ in range(_ATTEMPTS):
            try:
                if revision is not None:
                    self._remember(record, await self._deploys.update(key, value, revision))
                    return
            except WrongRevision:
                pass
            # Also a write of ours whose acknowledgement was lost changes the revision: the owner decides.
            entry = await self._deploys.get(key)
            stored = self._mine(entry, DeployRecord)
            if entry is None or stored is None or stored.owner != record.owner:
                self._owned.pop(record.deploy_id, None)
                raise Lost(record.deploy_id)
            revision = entry.revision
        raise _contended(key)

    async def unfinished_deploys(self) -> list[DeployRecord]:
        """Deploys without an end, or with somebody who has not got the answer; oldest first."""
        found, listed = [], {}
        for entry in await self._deploys.entries("deploy."):
            record = self._readable(entry, DeployRecord)
            if record and _unfinished(record):
                found.append(self._deploy(record, entry))
                listed[record.deploy_id] = entry.revision
        self._listed = listed  # what was listed before is over, or here again
        return sorted(found, key=lambda record: record.order or 0)

    async def deploys(self) -> list[DeployRecord]:
        """Every deploy that there is a record of, to be looked at only.

        Raises:
            Permanent: `internal_error`, when one of them can't be read: nobody knows what it needs.
        """
        found = [self._mine(entry, DeployRecord) for entry in await self._deploys.entries("deploy.")]
        return [record for record in found if record is not None]

    def _remember(self, record: DeployRecord, revision: int) -> None:
        # What is over is dropped, or this would grow with every deploy.
        self._owned[record.deploy_id] = revision
        if not _unfinished(record):
            del self._owned[record.deploy_id]

    async def watch_deploy(self, deploy_id: str) -> AsyncIterator[DeployRecord | None]:
        """The deploy as it is and as it changes; None once it is gone."""
        async for change in self._deploys.watch(f"deploy.{deploy_id}"):
            if isinstance(change, Deleted):
                yield None
            elif record := self._readable(change, DeployRecord):
                yield self._deploy(record, change)

    async def watch_deploys(self, wanted: Callable[[str], bool]) -> AsyncIterator[tuple[str, DeployRecord | None]]:
        """Deploys whose ids are `wanted` by then, each as it is and as it changes; None once it is gone; for ever."""
        async for change in self._deploys.watch("deploy."):
            deploy_id = change.key.partition(".")[2]
            if wanted(deploy_id):
                record = self._readable(change, DeployRecord) if isinstance(change, Entry) else None
                yield deploy_id, self._deploy(record, change) if record and isinstance(change, Entry) else None

    async def wait_deploy(self, deploy_id: str, predicate: Callable[[DeployRecord], bool]) -> DeployRecord:
        """Wait until the deploy fulfils `predicate`; bound it with `asyncio.timeout`.

        Raises:
            Permanent: `not_found` when there is no such deploy, or no more.
        """
        record = await self._patiently(deploy_id)
        if record is not None and predicate(record):
            return record
        if record is not None:
            async for changed in self.watch_deploy(deploy_id):
                if changed is None:
                    break
                if predicate(changed):
                    return changed
        raise Permanent(
            Code.NOT_FOUND,
            f"There is no deploy {deploy_id}.",
            reason="DeployNotFound",
            hint="Deploys are kept for two days after their end; `list` names the previews that there are.",
        )

    async def _patiently(self, deploy_id: str) -> DeployRecord | None:
        # Whoever waits for a deploy outlasts a restart of the bus.
        while True:
            try:
                return await self.get_deploy(deploy_id)
            except Temporary as error:
                log.debug("store.wait.again", deploy_id=deploy_id, error=str(error))
                await asyncio.sleep(_LONGEST_PAUSE)

    async def next_order(self, tag: str) -> int:
        """A fresh number in the order of deploys, for a change that is no deploy (a teardown of `tag`)."""
        return await self._deploys.put(f"order.{tag}", stamp(self._platform_id))

    # ------------------------------------------------------------------------ previews

    async def get_preview(self, slug: str) -> PreviewRecord | None:
        """The preview's record, a removed one's tombstone included."""
        return self._mine(await self._previews.get(f"preview.{slug}"), PreviewRecord)

    async def latest_preview(self, slug: str) -> PreviewRecord | None:
        """The preview's record as this process wrote it last, and read only where it did not."""
        wrote = self._wrote.get(slug)
        return wrote[0] if wrote is not None else await self.get_preview(slug)

    async def previews(self) -> list[PreviewOutline]:
        """Every preview that is not removed, by slug."""
        outlines = [self._readable(entry, PreviewOutline) for entry in await self._previews.entries("preview.")]
        return sorted((one for one in outlines if one and one.removed_at is None), key=lambda one: one.slug)

    async def each_preview(self) -> AsyncIterator[tuple[str, PreviewRecord | None]]:
        """The slug and the record of every preview that is not removed, one after the other: all would be much memory.

        Without a record: that is another installation's, or can't be read, and nobody here knows what it needs.
        """
        entries = deque(await self._previews.entries("preview."))
        while entries:
            entry = entries.popleft()
            record = self._readable(entry, PreviewRecord)
            if record is None or record.removed_at is None:
                yield entry.key.partition(".")[2], record
                await asyncio.sleep(0)  # whoever reads a thousand lets others work meanwhile

    async def change_preview(self, slug: str, reducer: Reducer) -> PreviewRecord:
        """Apply `reducer` to the present record by compare-and-set; the one way in which previews change.

        The reducer may run several times and its exceptions pass through. Nothing is written when it
        returns an equal record. `updated_at` is set here.
        """
        key = f"preview.{slug}"
        wrote, revision = self._wrote.pop(slug, (None, 0))  # one that was never written here is mostly new
        with suppress(KeyExists, WrongRevision, PreviewError):  # what is wrong shows again when it is read
            if (after := await self._changed(key, wrote, revision, reducer)) != wrote:
                return after
        for attempt in range(_ATTEMPTS):
            entry = await self._previews.get(key)
            before = self._own(entry, PreviewRecord) if entry else None
            try:
                return await self._changed(key, before, entry.revision if entry else 0, reducer)
            except (KeyExists, WrongRevision):
                await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.005 * 2**attempt)))  # noqa: S311
        raise _contended(key)

    async def _changed(self, key: str, before: PreviewRecord | None, revision: int, reducer: Reducer) -> PreviewRecord:
        after = reducer(before)
        if after == before:
            return after
        after = after.model_copy(update={"updated_at": now()})
        if before is None:
            revision = await self._previews.create(key, encode(after))
        else:
            revision = await self._previews.update(key, encode(after), revision)
        self._wrote[after.slug] = after, revision
        while len(self._wrote) > _MOST_WROTE:
            del self._wrote[next(iter(self._wrote))]
        return after

    async def watch_previews(self) -> AsyncIterator[PreviewRecord]:
        """Every preview as it is and as it changes, tombstones included."""
        async for change in self._previews.watch("preview."):
            if isinstance(change, Entry) and (record := self._readable(change, PreviewRecord)):
                yield record

    async def purge_removed(self, older_than: timedelta) -> int:
        """Drop tombstones of that age; returns how many.

        With a tombstone goes the slug's generation, so keep it longer than any deploy can live.
        """
        purged = 0
        for entry in await self._previews.entries("preview."):
            record = self._readable(entry, PreviewOutline)
            if record is None or record.removed_at is None or record.removed_at > now() - older_than:
                continue
            try:
                await self._previews.purge(entry.key, entry.revision)
                purged += 1
            except WrongRevision:
                continue  # in use again
        return purged

    # ---------------------------------------------------------------------- instances

    def membership(self, name: str, lease: float) -> Membership:
        """The heartbeat of this process among the providers of the installation."""
        return Membership(bucket=self._deploys, platform_id=self._platform_id, name=name, lease=lease)

    # ------------------------------------------------------------------------ reading

    def _deploy(self, record: DeployRecord, entry: Entry) -> DeployRecord:
        # Without an order it was never rewritten, so this revision is the one that created it.
        return record if record.order is not None else record.model_copy(update={"order": entry.revision})

    def _mine(self, entry: Entry | None, model: type[Record]) -> Record | None:
        """The record, or None when there is none or it is another installation's."""
        if entry is None:
            return None
        record = decode(entry, model)
        return record if record.platform_id == self._platform_id else None

    def _own(self, entry: Entry, model: type[Record]) -> Record:
        """The record; another installation's is an error, because it must not be written over."""
        record = self._mine(entry, model)
        if record is None:
            raise Permanent(
                Code.CONFLICT,
                f"{entry.key} belongs to another installation on this bus.",
                reason="OtherInstallation",
                hint="Give each installation a SUBJECT_PREFIX of its own.",
            )
        return record

    def _readable(self, entry: Entry, model: type[Record]) -> Record | None:
        """As `_mine`, but one bad record does not hide the others; the log names it."""
        try:
            return self._mine(entry, model)
        except PreviewError:
            return None


def memory_store(platform_id: str) -> Store:
    """The store of a bus without JetStream: it forgets everything when the process ends."""
    return Store(previews=MemoryKeyValue(), deploys=MemoryKeyValue(ttl=DEPLOY_TTL), platform_id=platform_id)


def _unfinished(record: DeployRecord) -> bool:
    return record.finished_at is None or any(not waiter.answered for waiter in record.waiters)


def _contended(key: str) -> Temporary:
    return Temporary(
        Code.PLATFORM_UNREACHABLE,
        f"{key} is changed by others all the time.",
        reason="StoreContended",
        delay=1.0,
        hint="Ask again; if it happens again, the provider's log says more.",
    )
