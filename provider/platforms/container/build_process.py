"""A builder process as seen by the provider: whether it lives, what it says, how it is stopped.

Everything is found in the build's folder, so a provider that was just started knows as much as the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from provider.models import LOG_TAIL_LINES
from provider.platforms.base import LogSink

FOLLOW_SECONDS = 0.1
STOP_SECONDS = 10.0
MAX_LINE = 8192
MOST_LINES = 200
CHUNK = 256 << 10


def is_alive(folder: Path) -> bool:
    """Whether a builder holds the folder's lock."""
    try:
        with (folder / "alive").open("r") as alive:
            fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def result(folder: Path) -> dict[str, Any] | None:
    """What the folder's builder came to; None while there is nothing."""
    try:
        found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except FileNotFoundError:
        return None
    return found


async def ended(folder: Path) -> None:
    """Return when the folder's builder has ended; the kernel tells, by its pidfd."""
    try:
        pid = int((folder / "alive").read_text() or "0")
        handle = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError, OSError):
        return
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    try:
        loop.add_reader(handle, done.set)
        if is_alive(folder):  # else that process id belongs to somebody else by now
            await done.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def follow(folder: Path, sink: LogSink) -> None:
    """Hand the log's lines to `sink` as they appear, until the builder has ended."""
    (folder / "log").touch()
    async for some in lines(folder):
        sink(some)
        await asyncio.sleep(0)  # a build that says much does not keep everybody waiting


async def lines_by_now(folder: Path) -> AsyncGenerator[list[str], None]:
    """The lines that the log has already; none where it is gone."""
    with contextlib.suppress(FileNotFoundError), (folder / "log").open("rb") as file:
        for some in _Reader(file).read(last=True):
            yield some


async def lines(folder: Path) -> AsyncGenerator[list[str], None]:
    """The log's lines as they appear, some at a time, until the builder has ended; also when its folder goes."""
    ending = asyncio.create_task(ended(folder))
    finished = False
    try:
        with contextlib.suppress(FileNotFoundError), (folder / "log").open("rb") as file:
            reading = _Reader(file)
            while not finished:
                finished = bool((await asyncio.wait({ending}, timeout=FOLLOW_SECONDS))[0])
                for some in reading.read(last=finished):
                    yield some
    finally:
        ending.cancel()


class _Reader:
    """Reads whole lines, each cut at a length; the last one only when it is complete, or there is nothing more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""

    def read(self, *, last: bool) -> Iterator[list[str]]:
        """What has come since, some lines at a time."""
        while chunk := self._file.read(CHUNK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[:MAX_LINE]
            for start in range(0, len(lines), MOST_LINES):
                yield [_line(line) for line in lines[start : start + MOST_LINES]]
        if last and self._rest:
            yield [_line(self._rest)]


def _line(raw: bytes) -> str:
    return raw[:MAX_LINE].decode(errors="replace").rstrip("\r")


async def stop(folder: Path) -> None:
    """Ask the folder's builder to end, and see to it that it does."""
    if not is_alive(folder):
        return
    with contextlib.suppress(ProcessLookupError, ValueError, FileNotFoundError):
        pid = int((folder / "alive").read_text())
        os.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await ended(folder)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            await ended(folder)


def tail(path: Path, count: int = LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log, so many at most."""
    try:
        with path.open("rb") as file:
            file.seek(begin := max(0, path.stat().st_size - 128 * 1024))
            lines = file.read().decode(errors="replace").splitlines()[bool(begin) :]  # the first may be half a line
    except FileNotFoundError:
        return []
    return [line[:MAX_LINE] for line in lines[-count:]]
