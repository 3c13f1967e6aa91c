"""Work beside the requests: repeated for ever, and ended for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from provider.errors import PreviewError

log = structlog.get_logger(__name__)

CANCEL_SECONDS = 0.2
RESTART_PAUSE = 1.0


async def ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done.

    Once is not enough: `asyncio.wait_for`, by which the NATS client waits, swallows a cancellation that comes
    together with a message (seen on Python 3.11).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)


async def forever(step: Callable[[], Awaitable[None]], pause: float) -> None:
    """Do `step` again and again; what it raises is logged, since the work must go on."""
    while True:
        await logged(step())
        await asyncio.sleep(pause or RESTART_PAUSE)


async def logged(work: Awaitable[object]) -> None:
    """Work beside the requests: a failure is logged and ends nothing else."""
    try:
        await work
    except PreviewError as error:
        log.warning("background.failed", error=str(error), evidence=error.evidence)
    except Exception:
        log.exception("background.failed")
