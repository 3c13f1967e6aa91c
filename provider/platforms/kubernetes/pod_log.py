"""A container's log, followed line by line or read from its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

import aiohttp

from provider.diagnose.builds import DIAGNOSED_LINES
from provider.errors import PreviewError
from provider.platforms.base import LogSink
from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.refusals import Refused
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.transport import TIMEOUT

LINE_BYTES = 16 << 10
MOST_LINES = 200
MOST_ERRORS = 5
AGAIN_SECONDS = 0.5


class Follower:
    """Follows one pod's log into a sink, in a task of its own; keeps the last lines, and the last that are errors.

    A connection that is cut is made again; lines that were seen already are counted and left out.
    """

    def __init__(self, *, api: Api, resource: Resource, pod: str, sink: LogSink) -> None:
        self.pod = pod
        self.tail: deque[str] = deque(maxlen=DIAGNOSED_LINES)
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
            async for lines in lines_of(stream):
                new, skip = lines[skip:], max(0, skip - len(lines))
                for start in range(0, len(new), MOST_LINES):
                    self._take(new[start : start + MOST_LINES])
                    await asyncio.sleep(0)

    def _take(self, lines: list[str]) -> None:
        self._seen += len(lines)
        self.tail.extend(lines)
        self.errors.extend(line for line in lines if line.lower().startswith("error"))
        self._sink(lines)


async def lines_of(stream: aiohttp.StreamReader) -> AsyncIterator[list[str]]:
    """A log's lines, as many at a time as have come; of each line its beginning."""
    rest = b""
    async for data in stream.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[:LINE_BYTES]
        if lines:
            yield [_line(line) for line in lines]
    if rest:
        yield [_line(rest)]


def _line(raw: bytes) -> str:
    return raw[:LINE_BYTES].decode(errors="replace").rstrip("\r")


async def last_lines(api: Api, resource: Resource, pod: str, count: int, *, previous: bool = False) -> tuple[str, ...]:
    """The last lines of a pod's log; nothing where it has none (yet, or any more)."""
    tail: deque[str] = deque(maxlen=count)
    with contextlib.suppress(Refused, PreviewError, TimeoutError):
        async with asyncio.timeout(TIMEOUT), api.log(resource, pod, previous=previous, tail=count) as stream:
            async for lines in lines_of(stream):
                tail.extend(lines)
    return tuple(tail)
