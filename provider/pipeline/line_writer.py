"""One writer of the line for a whole process: at most one write under way, all that waits in the next one.

A change is tried until it is written: others may have written first, or the bus may be away. What nobody waits for is
written a little late, together with what has to be written anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from provider.errors import PreviewError, Temporary
from provider.models import LineRecord
from provider.pipeline.causes import bug
from provider.store import line as rules
from provider.store.line_records import Known, LineRecords, Overtaken

log = structlog.get_logger(__name__)

LAZY_SECONDS = 0.5
"""How late at most something is written that nobody waits for."""
CLOSE_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 1.0


@dataclass(frozen=True, slots=True)
class _Wish:
    """A change that is to be written; `done` gets its outcome."""

    change: rules.Change
    done: asyncio.Future[None] | None = None


class LineWriter:
    """Writes the line, and knows it.

    Args:
        records: the shared record.
        limits: what turns are granted by.
        seen: called with each newer line, whoever wrote it.
        failed: called when the line cannot be written at all, with the reason.
    """

    def __init__(
        self,
        records: LineRecords,
        limits: rules.Limits,
        *,
        seen: Callable[[LineRecord], None],
        failed: Callable[[PreviewError], None],
    ) -> None:
        self._records = records
        self._limits = limits
        self._seen = seen
        self._failed = failed
        self._known: Known | None = None
        self._wishes: list[_Wish] = []
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    @property
    def line(self) -> LineRecord | None:
        """The line as it was last seen; None before it was."""
        return self._known.line if self._known is not None else None

    async def watch(self) -> None:
        """Learn what others write; for ever. What is not there yet, no watch would tell."""
        with contextlib.suppress(Temporary):
            self._learn(await self._records.get())
        async for known in self._records.watch():
            if known.revision == 0:  # it was deleted; what was written since then may be there already
                before = self._known
                with contextlib.suppress(Temporary):
                    known = await self._records.get()
                if known.revision == 0 and self._known is before:
                    self._known = None
            self._learn(known)

    def write(self, change: rules.Change, done: asyncio.Future[None] | None = None) -> None:
        """Have a change written as soon as can be; `done` gets the outcome."""
        self._wishes.append(_Wish(change, done))
        self._begin()

    def write_later(self, change: rules.Change) -> None:
        """Have a change written with the next one; soon where somebody waits, since it may give a turn."""
        self._wishes.append(_Wish(change))
        if self.line is None or rules.queued(self.line, self._limits):
            self._begin()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(LAZY_SECONDS, self._begin)

    async def close(self) -> None:
        """Write what is still to be written, for a moment."""
        self._begin()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ---------------------------------------------------------------------------- parts

    def _learn(self, known: Known) -> None:
        """Take in what is newer than what is known: a change that was judged by an older line would be lost."""
        if self._known is None or known.revision > self._known.revision:
            self._see(known)

    def _see(self, known: Known) -> None:
        self._known = known
        self._seen(known.line)
        if self._wishes and rules.queued(known.line, self._limits):
            self._begin()

    def _begin(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._wishes and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._write(), name="line")

    async def _write(self) -> None:
        """Write all wishes, those together that come together."""
        while self._wishes:
            wishes, self._wishes = self._wishes, []
            try:
                known, refusals = await self._written(wishes)
            except Exception as unforeseen:
                error = unforeseen if isinstance(unforeseen, PreviewError) else bug(unforeseen)
                log.error("line.not_written", error=str(error), evidence=error.evidence)
                self._failed(error)
                refusals = [error] * len(wishes)
            else:
                self._see(known)
            for wish, refusal in zip(wishes, refusals, strict=True):
                _settle(wish, refusal)

    async def _written(self, wishes: list[_Wish]) -> tuple[Known, list[PreviewError | None]]:
        """The line with these wishes in it, and which of them were refused."""
        known, pause = self._known, FIRST_PAUSE
        while True:
            try:
                known = known or await self._records.get()
                line, refusals = self._after(known.line, wishes)
                return known if line == known.line else await self._records.write(line, known.revision), refusals
            except Overtaken:
                known = None
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311
            except Temporary as error:
                log.warning("line.again", error=str(error), evidence=error.evidence)
                known = None
                await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _after(self, line: LineRecord, wishes: list[_Wish]) -> tuple[LineRecord, list[PreviewError | None]]:
        refusals: list[PreviewError | None] = []
        for wish in wishes:
            try:
                line = wish.change(line)
                refusals.append(None)
            except PreviewError as error:
                refusals.append(error)
        return rules.grant(line, self._limits), refusals


def _settle(wish: _Wish, refusal: PreviewError | None) -> None:
    if wish.done is None or wish.done.done():
        return
    if refusal is None:
        wish.done.set_result(None)
    else:
        wish.done.set_exception(refusal)
