"""A container's log, followed line by line or read from its end."""

from __future__ import annotations

import asyncio
from collections import deque

from provider.errors import PreviewError
from provider.models import LOG_TAIL_LINES
from provider.platforms.base import LogSink
from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.refusals import Refused
from provider.platforms.kubernetes.resources import Resource

LINE_BYTES = 16 << 10
MOST_ERRORS = 5
AGAIN_SECONDS = 0.5


class Follower:
    """Follows one pod's log into a sink, in a task of its own; keeps the last lines, and the last that are errors.

    A connection that is cut is made again; lines that were seen already are counted and left out.
    """

    def __init__(self, *, api: Api, resource: Resource, pod: str, sink: LogSink) -> None:
        self.pod = pod
        self.tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self.errors: deque[str] = deque(maxlen=MOST_ERRORS)
        self._api = api
        self._resource = resource
        self._sink = sink
        self._seen = 0
        self._task = asyncio.create_task(self._follow(), name=f"log {pod}")

    async def finish(self, patience: float) -> None:
        """Wait until the log has ended, so many seconds at most, and stop following."""
        await asyncio.wait({self._task}, timeout=patience)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._read()
            except Refused:
                return  # the pod is gone
            except PreviewError:
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    async def _read(self) -> None:
        skip = self._seen
        async with self._api.log(self._resource, self.pod, follow=True) as stream:
            async for raw in stream:
                if skip:
                    skip -= 1
                    continue
                self._seen += 1
                line = raw[:LINE_BYTES].decode(errors="replace").rstrip("\r\n")
                self.tail.append(line)
                if line.lower().startswith("error"):
                    self.errors.append(line)
                self._sink([line])


async def last_lines(api: Api, resource: Resource, pod: str, count: int, *, previous: bool = False) -> tuple[str, ...]:
    """The last lines of a pod's log; nothing where it has none (yet, or any more)."""
    try:
        async with api.log(resource, pod, previous=previous, tail=count) as stream:
            text = await stream.read(-1)
    except (Refused, PreviewError):
        return ()
    return tuple(line[:LINE_BYTES] for line in text.decode(errors="replace").splitlines()[-count:])
