"""How a deploy ends: its outcome is fixed in both records; before, the last good is put back; after, leftovers go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from provider.errors import PreviewError, Temporary
from provider.models import DeployRecord, EventType, Phase, PhaseTiming, PreviewRecord, PreviewState, now
from provider.pipeline import publish, report
from provider.pipeline.context import Context
from provider.pipeline.restore import restore
from provider.pipeline.steps import FIRST_PAUSE, LONGEST_PAUSE, Running
from provider.store.reducers import still_newest

T = TypeVar("T")
log = structlog.get_logger(__name__)

BEFORE_CHANGES = {Phase.RESOLVE, Phase.ADMIT, Phase.BUILD}
"""Phases in which nothing of a preview is changed yet, so that nothing has to be put back."""
CLEAN_UP_SECONDS = 15.0
RESTORE_SECONDS = 60.0


class Ending:
    """Ends deploys, and writes their records.

    Args:
        ctx: the parts that it uses.
        lock: the lock of a preview, by its slug.
    """

    def __init__(self, ctx: Context, lock: Callable[[str], asyncio.Lock]) -> None:
        self._ctx = ctx
        self._lock = lock

    async def save(self, running: Running, record: DeployRecord) -> None:
        """Make this the deploy's record, and return when it is written."""
        await self.save_beside(running, record)
        await self.written(running)

    async def save_beside(self, running: Running, record: DeployRecord) -> None:
        """Make this the deploy's record, and write it while the next phase begins.

        One write at most is under way, so what is stored is at most one phase behind: a process that goes on from
        there does a phase again, which each phase allows, and nothing is changed that the record does not lead to.
        """
        await self.written(running)
        running.record = record = self._ctx.logbook.masked(record)
        running.writing = asyncio.create_task(repeat(lambda: self._ctx.store.save_deploy(record)))

    async def written(self, running: Running) -> None:
        """Return when nothing is being written of the deploy any more. Raises what the write raised."""
        if running.writing is not None:
            writing, running.writing = running.writing, None
            await writing

    async def settle(self, running: Running) -> None:
        """Put the last good back if this failed, then fix the outcome in both records."""
        await self.written(running)  # a deploy that was taken from us by now is another's to settle
        while running.record.report is None:
            running.record = self._ctx.logbook.masked(running.record)
            if running.record.failure is not None and running.record.phase not in BEFORE_CHANGES:
                await self._restore(running)
            began = time.monotonic()
            publishing = running.record.model_copy(update={"phase": Phase.PUBLISH})
            self._ctx.emit(publishing, EventType.PHASE_STARTED, {})
            await self.save(running, await repeat(lambda: publish.settle(self._ctx, running.record)))
            data = {"ok": running.record.report is not None, "seconds": round(time.monotonic() - began, 4)}
            self._ctx.emit(publishing, EventType.PHASE_FINISHED, data)

    async def clean_up(self, record: DeployRecord) -> None:
        """Remove what neither serves nor is the last good, when nobody is changing the preview."""
        await tolerate(self._ctx.platform.drop_staged(record.staged))
        if record.slug and (generation := record.generation or await self._admitted(record)):
            await self.tidy(record.slug, generation)

    async def _admitted(self, record: DeployRecord) -> int:
        """The generation of a deploy that failed in admit, and may have made a bundle there; 0: it got none."""
        preview = await repeat(lambda: self._ctx.store.get_preview(str(record.slug)))
        return preview.generation if preview is not None and still_newest(preview, record) else 0

    async def tidy(self, slug: str, up_to: int) -> None:
        """Remove of a preview's generations up to `up_to` what neither serves nor is the last good."""
        async with self._lock(slug):
            preview = await repeat(lambda: self._ctx.store.get_preview(slug))
            if preview is not None:  # else the bus lost it, and what serves is not ours to remove: see `keeper.sweep`
                await self._retire(slug, preview, up_to)

    async def put_right(self, slug: str) -> None:
        """What a provider that was killed, or could not, has left undone: the last good serves, leftovers go."""
        async with self._lock(slug):
            preview = await repeat(lambda: self._ctx.store.get_preview(slug))
            if preview is None or preview.state is PreviewState.PROVISIONING:
                return  # whoever deploys it sees to it
            if preview.state is not PreviewState.DEGRADED:
                await self._retire(slug, preview, preview.generation)
                return
            await tolerate(
                self._ctx.platform.restore(slug, preview.generation, None, preview.last_good), RESTORE_SECONDS
            )
        await self.tidy(slug, preview.generation)

    async def _retire(self, slug: str, preview: PreviewRecord, up_to: int) -> None:
        revisions = (preview.current, preview.last_good)
        await tolerate(self._ctx.platform.retire(slug, tuple(one for one in revisions if one is not None), up_to))

    async def _restore(self, running: Running) -> None:
        """Restoring must not be given up by an interruption, and not lose the first cause by its own failure."""
        began = time.monotonic()
        await self.save(running, entered(running.record, Phase.RESTORE))
        self._ctx.emit(running.record, EventType.PHASE_STARTED, {})
        update: dict[str, object] = {}
        try:
            async with asyncio.timeout(RESTORE_SECONDS):
                await repeat(lambda: restore(self._ctx, running.record))
        except Exception as error:  # also a bug: whoever asked gets the answer all the same
            said = self._ctx.logbook.masker(running.record.deploy_id).text(str(error))  # it may quote the app
            log.error("restore.failed", error=said, exc_info=not isinstance(error, PreviewError | TimeoutError))
            update["warnings"] = (*running.record.warnings, report.NOT_PUT_BACK)
        seconds = time.monotonic() - began
        update["timings"] = with_time(running.record, seconds)
        data = {"ok": "warnings" not in update, "seconds": round(seconds, 4)}
        self._ctx.emit(running.record, EventType.PHASE_FINISHED, data)
        running.record = running.record.model_copy(update=update)


async def repeat(call: Callable[[], Awaitable[T]]) -> T:
    """Do something that must happen, through outages of what it needs."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await call()
        except Temporary as error:
            log.warning("repeat", error=str(error), evidence=error.evidence)
            await asyncio.sleep(error.delay if error.delay is not None else pause)
            pause = min(pause * 2, LONGEST_PAUSE)


async def tolerate(call: Awaitable[None], seconds: float = CLEAN_UP_SECONDS) -> None:
    """Clean-up whose failure must not change an outcome; what it leaves is removed by the next one."""
    try:
        async with asyncio.timeout(seconds):
            await call
    except (PreviewError, TimeoutError) as error:
        log.warning("clean_up.failed", error=str(error))
    except Exception:
        log.exception("clean_up.failed")


def entered(record: DeployRecord, phase: Phase) -> DeployRecord:
    """The record at the start of a phase."""
    timing = PhaseTiming(phase=phase, started_at=now())
    return record.model_copy(update={"phase": phase, "timings": (*record.timings, timing)})


def with_time(record: DeployRecord, seconds: float) -> tuple[PhaseTiming, ...]:
    """The record's timings with the last phase's seconds."""
    *earlier, last = record.timings
    return (*earlier, last.model_copy(update={"seconds": round(seconds, 4)}))
