"""Reconcile: what somebody deletes or edits of a preview at rest is put back, from its record's last good revision.

Nothing is polled: the platform tells of which previews something changed, the record's watch of those that came to
rest. Only what both then say is compared. A repair is a change with a generation of its own, taken by compare-and-set
from a preview at rest, so that it neither meets a deploy or a teardown nor another provider's repair.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import structlog

from provider.errors import Code, Permanent, PreviewError
from provider.keeper.known import Mine
from provider.keeper.notices import Notices
from provider.models import EventType, Failure, PreviewOutline, PreviewRecord, PreviewState, Revision, now
from provider.platforms import bundles
from provider.platforms.base import Drift, Platform
from provider.store import Store
from provider.store.resting import at_rest, is_lacking, lacking, repaired, repairing

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 0.2
"""What is told one after the other is looked at together."""
BUSY_SECONDS = 1.0
"""How long a preview that somebody is changing is left alone."""
OTHERS_SECONDS = 15.0
"""When another instance should have put right what is its: longer than it takes to be known as dead."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
AT_ONCE = 4
PORTION = 50
"""So many records are looked at together: all would be much memory, one by one many questions to an engine."""


@dataclass(slots=True)
class _Pause:
    """How long a preview is left alone after it was put back: somebody may undo it again and again."""

    seconds: float
    until: float


class Reconcile:
    """Puts back what is at rest.

    Args:
        store, platform: whose records, and where they run.
        lock: of a preview, by its slug; whoever changes what it runs holds it.
        notices: tell that something was put back, or can't be.
        mine: see `known.Mine`.
    """

    def __init__(
        self,
        *,
        store: Store,
        platform: Platform,
        lock: Callable[[str], asyncio.Lock],
        notices: Notices,
        mine: Mine,
    ) -> None:
        self._store = store
        self._platform = platform
        self._lock = lock
        self._notices = notices
        self._mine = mine
        self._touched: set[str | None] = set()
        self._wake = asyncio.Event()
        self._pauses: dict[str, _Pause] = {}
        self._others: set[str] = set()
        self._known: dict[str, tuple[int, str]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def touched(self, slug: str | None) -> None:
        """Something of this preview (None: of any) may have changed: it is looked at soon."""
        self._touched.add(slug)
        self._wake.set()

    def on_preview(self, preview: PreviewOutline) -> None:
        """A preview's record is this now. It is looked at when what shall run changed, not at each touch."""
        if not at_rest(preview):
            self._pauses.pop(preview.slug, None)
            self._known.pop(preview.slug, None)
            return
        known = (preview.generation, preview.last_good.deploy_id if preview.last_good is not None else "")
        if self._known.get(preview.slug) != known:
            self._known[preview.slug] = known
            self.touched(preview.slug)

    async def all(self) -> None:
        """Look at every preview, whatever was told: the platform may not tell all, and instances come and go."""
        self.touched(None)

    async def once(self) -> None:
        """Wait until something is told, and put right what is not as it was made."""
        await self._wake.wait()
        await asyncio.sleep(SETTLE_SECONDS)
        self._wake.clear()
        slugs, self._touched = self._touched, set()
        try:
            async for previews in self._resting(slugs):
                await self._compare(previews)
        except BaseException:
            self._touched |= slugs
            self._wake.set()
            raise

    async def _compare(self, previews: Sequence[PreviewRecord]) -> None:
        drifts = await self._platform.drift({one.slug: _good(one) for one in previews})
        lacks = {one.slug for one in previews if is_lacking(one)}
        await asyncio.gather(*(self._attend(slug) for slug in {*drifts, *lacks}))

    async def _resting(self, slugs: set[str | None]) -> AsyncIterator[Sequence[PreviewRecord]]:
        """Those that are at rest and ours to look at, in portions."""
        portion: list[PreviewRecord] = []
        async for preview in self._ours(slugs):
            if preview is not None and at_rest(preview):
                portion.append(preview)
            if len(portion) == PORTION:
                yield portion
                portion = []
        if portion:
            yield portion

    async def _ours(self, slugs: set[str | None]) -> AsyncIterator[PreviewRecord | None]:
        """The records; many are listed, which takes a tenth of what it takes to ask for each."""
        # One that is not known to rest is left alone: it is touched when its record says that it came to rest.
        wanted = {slug for slug in slugs if slug in self._known and self._may(slug)}
        if None not in slugs and len(slugs) <= PORTION:
            for slug in wanted:
                yield await self._store.get_preview(slug)
            return
        async for slug, preview in self._store.each_preview():
            if slug in wanted or (None in slugs and self._mine(slug)):
                yield preview

    def _may(self, slug: str) -> bool:
        """Whether it is ours to look at; another instance's is when that had its time, for it may have died."""
        if self._mine(slug) or slug in self._others:
            self._others.discard(slug)
            return True
        self._others.add(slug)
        self._later(slug, OTHERS_SECONDS)
        return False

    async def _attend(self, slug: str) -> None:
        """Put one preview right, unless it has to wait; a failure is tried again, later each time."""
        pause, lock = self._pauses.get(slug), self._lock(slug)
        if pause is not None and (left := pause.until - time.monotonic()) > 0:
            self._later(slug, left)
            return
        if lock.locked():
            self._later(slug, BUSY_SECONDS)
            return
        try:
            async with self._turns, lock:
                await self._put_right(slug)
        except PreviewError as error:
            if error.code is not Code.SUPERSEDED:  # else somebody newer has it
                log.warning("reconcile.failed", slug=slug, error=str(error), evidence=error.evidence)
                self._later(slug, self._paused(slug))
        except Exception:
            log.exception("reconcile.failed", slug=slug)
            self._later(slug, self._paused(slug))

    async def _put_right(self, slug: str) -> None:
        """The record is read and the platform looked at anew, now that nobody here changes the preview."""
        preview = await self._store.get_preview(slug)
        if preview is None or not at_rest(preview):
            return
        drift = (await self._platform.drift({slug: _good(preview)})).get(slug, Drift(()))
        if not drift.what and drift.bundle_lost is None and not is_lacking(preview):
            return
        if drift.bundle_lost is not None:
            preview = await self._lacks(preview, Failure.of(bundles.gone(drift.bundle_lost), None))
        if drift.what:
            await self._put_back(preview, drift)
        elif drift.bundle_lost is None:
            await self._store.change_preview(slug, repaired(preview.generation, preview.anchor_id))

    async def _put_back(self, preview: PreviewRecord, drift: Drift) -> None:
        slug, what = preview.slug, list(drift.what)
        pause = self._paused(slug)
        log.warning("reconcile", slug=slug, what=what)
        mine = await self._store.change_preview(slug, repairing(preview.generation))
        try:
            await self._apply(mine, drift, what, pause)
        finally:
            present = await self._store.get_preview(slug)
            if present is not None and present.state is PreviewState.REMOVING:  # torn down meanwhile: nothing may stay
                await self._platform.retire(slug, (), mine.generation)

    async def _apply(self, mine: PreviewRecord, drift: Drift, what: list[str], pause: float) -> None:
        slug = mine.slug
        try:
            anchor = await self._platform.put_back(slug, _good(mine), mine.generation)
        except Permanent as error:
            if error.code is not Code.SUPERSEDED:
                if drift.bundle_lost is None:  # else that is why, and said already
                    await self._lacks(mine, Failure.of(error, None))
                self._later(slug, pause)
            return
        text = f"Somebody changed the preview {slug}; put back: {'; '.join(what)}."
        data = {"put_back": what, "generation": mine.generation}
        self._notices.event(mine, EventType.WARNING, "PutBack", text, now(), data)
        if drift.bundle_lost is None:
            await self._store.change_preview(slug, repaired(mine.generation, anchor))

    async def _lacks(self, preview: PreviewRecord, failure: Failure) -> PreviewRecord:
        """Say in the record, and once by an event, what can't be put back."""
        changed = await self._store.change_preview(preview.slug, lacking(preview.generation, failure))
        if preview.failure != changed.failure:
            text = " ".join(filter(None, (failure.message, failure.hint)))
            data = {"code": failure.code, "generation": changed.generation}
            self._notices.tell(changed, EventType.WARNING, failure.reason or "NotPutBack", text, now(), data)
        return changed

    def _paused(self, slug: str) -> float:
        """From now on leave the preview alone for a while, longer each time that follows soon; seconds."""
        moment, before = time.monotonic(), self._pauses.get(slug)
        soon = before is not None and moment < before.until + 2 * before.seconds + FIRST_PAUSE
        seconds = min(2 * before.seconds, LONGEST_PAUSE) if before is not None and soon else FIRST_PAUSE
        self._pauses[slug] = _Pause(seconds, moment + seconds)
        return seconds

    def _later(self, slug: str, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.touched, slug)


def _good(preview: PreviewRecord) -> Revision:
    assert preview.last_good is not None, "it is at rest"
    return preview.last_good
