"""A container's log, while it grows and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

from tests.cluster.standin.clock import Clock

Line = tuple[datetime, str]


class ContainerLog:
    """Lines with their times; whoever follows sees each as it is written."""

    def __init__(self, clock: Clock) -> None:
        self.lines: list[Line] = []
        self._clock = clock
        self._closed = False
        self._changed = asyncio.Event()

    def write(self, text: str) -> None:
        """Append what was printed, line by line."""
        now = self._clock.now()
        self.lines += [(now, line) for line in text.splitlines()]
        self._wake()

    def close(self) -> None:
        """The container has ended: followers end too."""
        self._closed = True
        self._wake()

    async def follow(self) -> AsyncIterator[Line]:
        """All lines from the first on, until the container ends."""
        index = 0
        while True:
            changed = self._changed
            for line in self.lines[index:]:
                index += 1
                yield line
            if self._closed and index == len(self.lines):
                return
            if index == len(self.lines):
                await changed.wait()

    def tail(self, lines: int, size: int) -> str:
        """The end, as a termination message shows it."""
        return "\n".join(text for _, text in self.lines[-lines:])[-size:]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
