"""The cluster's time: it can run faster than ours, so that minutes of back-off pass in seconds of a test.

Every delay of a controller goes through it and is written down in seconds of a real cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Time that began with this object.

    Args:
        speed: seconds of the cluster in one second of ours.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._epoch = datetime.now(UTC)
        self._began = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of the cluster since this clock was made."""
        return (time.monotonic() - self._began) * self.speed

    def now(self) -> datetime:
        """The cluster's UTC time."""
        return self._epoch + timedelta(seconds=self.elapsed())

    def stamp(self) -> str:
        """The present time as it stands in objects: whole seconds."""
        return stamp(self.now())

    async def sleep(self, seconds: float) -> None:
        """Wait for that many seconds of the cluster."""
        await asyncio.sleep(max(seconds, 0.0) / self.speed)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after that many seconds of the cluster."""
        return asyncio.get_running_loop().call_later(max(seconds, 0.0) / self.speed, callback)


def stamp(moment: datetime) -> str:
    """A moment as meta/v1 Time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """What `stamp` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
