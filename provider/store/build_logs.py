"""Logs of builds that are over: whole, compressed, bounded in size and age, for whoever asks later.

A log goes through a `Spool` as its lines come, and then onto a `Shelf`: an object store of the bus, where every
provider finds what another one's build wrote, or, on a bus that keeps nothing, a folder on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol

HEAD_ROOM = 512
"""Bytes before the log itself, for what is known of it: that is complete only at its end."""
IN_MEMORY = 256 << 10
TAIL_BYTES = 256 << 10
CHUNK = 64 << 10
FAST = 1
SUFFIX = ".log.z"


@dataclass(frozen=True, slots=True)
class KeptInfo:
    """What is known of a kept log.

    Args:
        deploy_id: the deploy that built.
        ended_at: when the log ended, in seconds since 1970.
        lines, size: of the log as it was written; `left_out` bytes of it, in the middle, are not kept.
        complete: whether its build ended, rather than whoever followed it.
    """

    deploy_id: str
    ended_at: float
    lines: int
    size: int
    left_out: int
    complete: bool


def file_for(size: int) -> IO[bytes]:
    """Where so many bytes are put for a while: in memory if they are few. The caller's to close."""
    return io.BytesIO() if size <= IN_MEMORY else tempfile.TemporaryFile()


def key_of(slug: str, build_inputs: str) -> str:
    """What a build's log is kept as: any deploy of the same inputs finds it."""
    return hashlib.sha256(f"{slug}\n{build_inputs}".encode()).hexdigest()[:32]


class Spool:
    """Takes a log's lines; compressed, and beyond a little in a file: a hundred builds at once cost no memory.

    Args:
        most: bytes that are kept; of a longer log the beginning and the end.
    """

    def __init__(self, most: int) -> None:
        self._file = file_for(0)
        self._file.write(b" " * HEAD_ROOM)
        self._pack = zlib.compressobj(FAST)
        self._tail_bytes = min(TAIL_BYTES, most // 2)
        self._room = most - self._tail_bytes
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._left_out = 0
        self._began = time.time()
        self.lines = 0
        self.size = 0

    @property
    def began(self) -> float:
        """When it was begun, in seconds since 1970."""
        return self._began

    def write(self, lines: list[str]) -> None:
        """Take some lines."""
        if not lines:
            return
        data = ("\n".join(lines) + "\n").encode(errors="replace")
        self.lines += len(lines)
        self.size += len(data)
        if not self._tail and len(data) <= self._room:
            self._room -= len(data)
            self._write(self._pack.compress(data))
            return
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size > self._tail_bytes and len(self._tail) > 1:
            self._tail_size -= len(dropped := self._tail.popleft())
            self._left_out += len(dropped)

    def _write(self, packed: bytes) -> None:
        if isinstance(self._file, io.BytesIO) and self._file.tell() + len(packed) > IN_MEMORY:
            small, self._file = self._file, file_for(IN_MEMORY + 1)
            self._file.write(small.getbuffer())
        self._file.write(packed)

    def kept(self, deploy_id: str, *, complete: bool) -> IO[bytes]:
        """The whole, from its beginning; it takes no more lines, and is there until `close`."""
        if self._left_out:
            self._tail.appendleft(f"… {self._left_out} bytes of output left out …\n".encode())
        self._write(self._pack.compress(b"".join(self._tail)) + self._pack.flush())
        info = KeptInfo(deploy_id, time.time(), self.lines, self.size, self._left_out, complete)
        self._file.seek(0)
        self._file.write(json.dumps(asdict(info)).encode().ljust(HEAD_ROOM - 1) + b"\n")
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Give its file back."""
        self._file.close()


class KeptLog:
    """A log that was kept; read by `pieces` as often as wanted, then closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._file.seek(0)
        self.info = KeptInfo(**json.loads(self._file.read(HEAD_ROOM)))

    def pieces(self) -> Iterator[list[str]]:
        """Its lines, some at a time."""
        self._file.seek(HEAD_ROOM)
        unpack, rest = zlib.decompressobj(), b""
        while data := self._file.read(CHUNK):
            while data:
                text = unpack.decompress(data, CHUNK)
                data = unpack.unconsumed_tail
                *lines, rest = (rest + text).split(b"\n")
                yield [line.decode(errors="replace") for line in lines]
        if rest:
            yield [rest.decode(errors="replace")]

    def close(self) -> None:
        """Give its file back."""
        self._file.close()


class Shelf(Protocol):
    """Where logs are kept."""

    async def put(self, key: str, log: IO[bytes]) -> None:
        """Keep a log, instead of one that was kept by that name. Raises Temporary."""

    async def get(self, key: str) -> KeptLog | None:
        """The log of that name, None where there is none (any more). Raises Temporary."""


class DiskShelf:
    """A folder, for a provider on a bus without JetStream.

    Args:
        most: bytes that all logs may have together; the oldest go.
        age: seconds after which a log goes.
    """

    def __init__(self, folder: Path, *, most: int, age: float) -> None:
        self._folder = folder
        self._most = most
        self._age = age

    async def put(self, key: str, log: IO[bytes]) -> None:
        """See `Shelf`."""
        await asyncio.to_thread(self._put, key, log)

    async def get(self, key: str) -> KeptLog | None:
        """See `Shelf`."""
        path = self._folder / (key + SUFFIX)
        try:
            if time.time() - path.stat().st_mtime > self._age:
                return None
            return await asyncio.to_thread(lambda: KeptLog(path.open("rb")))
        except FileNotFoundError:
            return None

    def _put(self, key: str, log: IO[bytes]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._folder / f"{key}.new"
        with draft.open("wb") as file:
            while data := log.read(CHUNK):
                file.write(data)
        draft.rename(self._folder / (key + SUFFIX))
        self._tidy()

    def _tidy(self) -> None:
        """Remove what is too old, and then the oldest until the rest has room."""
        found = []
        for path in self._folder.glob("*" + SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        size = 0
        for changed, own, path in sorted(found, reverse=True):
            size += own
            if size > self._most or time.time() - changed > self._age:
                path.unlink(missing_ok=True)
