"""Work that is not given up in the middle: what a cancelled caller had begun is done, and then undone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from provider.errors import PreviewError

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Beside:
    """Tasks that nobody waits for but `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Awaitable[object], what: str) -> None:
        """Do this beside; a failure is logged."""
        task = asyncio.create_task(self._logged(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def whole(self, work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]], what: str) -> T:
        """Make something. A request that was cancelled on its way may be done all the same: it is undone then."""
        task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.start(self._undone(task, undo), what)
            raise

    async def close(self) -> None:
        """Return when all of it is done."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _undone(self, task: asyncio.Task[T], undo: Callable[[T], Awaitable[object]]) -> None:
        try:
            made = await task
        except Exception as error:  # nothing was made, or nobody knows: it is swept, or ends by its deadline
            log.info("beside.not_made", error=str(error))
            return
        await undo(made)

    async def _logged(self, work: Awaitable[object], what: str) -> None:
        try:
            await work
        except PreviewError as error:
            log.warning("beside.failed", what=what, error=str(error), evidence=error.evidence)
        except Exception:
            log.exception("beside.failed", what=what)
