"""A step's deadline, which stands still while the step waits for what is not its own doing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Clock:
    """Counts down to a deadline.

    Args:
        deadline: when it is over, on the monotonic clock.
        last: until when it may stand still: the end of the whole deploy's budget.
    """

    def __init__(self, deadline: float, last: float) -> None:
        self.deadline = min(deadline, last)
        self._last = last
        self._limit: asyncio.Timeout | None = None

    @classmethod
    def endless(cls) -> Clock:
        """The clock of what has no deadline."""
        return cls(math.inf, math.inf)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """End what is done inside with `TimeoutError` at the deadline."""
        async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())) as self._limit:
            yield

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done inside costs none of the time."""
        began = time.monotonic()
        self._rearm(self._last)
        try:
            yield
        finally:
            self.deadline = min(self.deadline + time.monotonic() - began, self._last)
            self._rearm(self.deadline)

    def _rearm(self, deadline: float) -> None:
        if self._limit is not None and not self._limit.expired():
            left = max(0.0, deadline - time.monotonic())
            self._limit.reschedule(asyncio.get_running_loop().time() + left)
