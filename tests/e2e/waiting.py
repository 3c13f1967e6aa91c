"""The one bounded retry of all tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
PAUSE, LONGEST_PAUSE = 0.02, 0.2


async def eventually(
    check: Callable[[], Awaitable[T | None]],
    *,
    timeout: float = PATIENCE,
    what: str = "",
    longest_pause: float = LONGEST_PAUSE,
) -> T:
    """The first truthy answer of `check`; the only place where a test waits by asking again.

    The longer it waits, the less often it asks, a tenth late at most: asking takes time from who is waited for.
    `longest_pause` is for a check that must not miss what is there for a moment only.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            while not (found := await check()):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(min(max(PAUSE, seconds_since(began) / 10), longest_pause))
            return found
    except TimeoutError:
        raise AssertionError(f"not within {timeout:g} s: {what or check}") from None


def seconds_since(start: float) -> float:
    """Seconds on the monotonic clock."""
    return time.monotonic() - start
