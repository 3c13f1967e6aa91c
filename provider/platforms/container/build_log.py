"""A build's log, bounded: a RUN step may say as much as it likes. Only the standard library: the builder uses it."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

MOST_BYTES = 16 << 20
TAIL_BYTES = 256 << 10
CHUNK = 64 << 10
LOOK_SECONDS = 0.2
LAST_BYTES = 4 << 10


def last_line(path: Path) -> str:
    """The last line that a log has by now; "" for an empty one."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


class BoundedLog:
    """Writes the beginning as it comes, and at the end the last of what came after: the errors stand there.

    Args:
        path: the log; what it holds already counts.
        head: most bytes that are written as they come.
        tail: most bytes that are kept of the rest.
    """

    def __init__(self, path: Path, *, head: int = MOST_BYTES - TAIL_BYTES, tail: int = TAIL_BYTES) -> None:
        self._file = path.open("ab", buffering=0)
        self._room = max(0, head - self._file.tell())
        self._most = tail
        self._tail = bytearray()
        self._left_out = 0

    def fileno(self) -> int:
        """The file, for what the builder itself says when it breaks."""
        return self._file.fileno()

    def write(self, data: bytes) -> None:
        """Take some output."""
        now, later = data[: self._room], data[self._room :]
        if now:
            self._file.write(now)
            self._room -= len(now)
        self._tail += later
        if len(self._tail) > 2 * self._most:
            self._cut()

    def copy(self, source: int, ended: Callable[[], bool]) -> None:
        """Take what comes from a pipe until its end; or until nothing comes although its process has ended."""
        while True:
            if not select.select([source], [], [], LOOK_SECONDS)[0]:
                if ended():
                    return
                continue
            data = os.read(source, CHUNK)
            if not data:
                return
            self.write(data)

    def close(self) -> None:
        """Write what was kept of the end."""
        if len(self._tail) > self._most:
            self._cut()
        if self._left_out:
            half = self._tail.find(b"\n") + 1  # of a line that was cut nobody could tell what it is the end of
            self._left_out += half
            del self._tail[:half]
            self._file.write(f"\n… {self._left_out} bytes of output left out …\n".encode())
        self._file.write(self._tail)
        self._file.close()

    def _cut(self) -> None:
        surplus = len(self._tail) - self._most
        self._left_out += surplus
        del self._tail[:surplus]
