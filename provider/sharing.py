"""A log that several follow: read, masked and encoded once, and taken by each at its own pace.

What is read goes into a temporary file, so that nobody waits for a slower follower, and memory holds none of it. Only
when the file is full does the reader wait, until everybody has taken all; then the file begins anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from provider.errors import PreviewError
from provider.masking import MaskedStream, Masker
from provider.platforms.looks import Lines

log = structlog.get_logger(__name__)

MOST_CHARS = 32 << 10
"""Of the lines of one piece, but for the last; in JSON one may take six bytes."""
MOST_BYTES = 96 << 10
"""Of the pieces in one message, but for the last."""
MOST_SPOOLED = 16 << 20


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some lines in the file, as JSON without the brackets."""

    start: int
    end: int
    lines: int


@dataclass(eq=False, slots=True)
class _Follower:
    """Somebody who takes the log's pieces; `at` is the next one."""

    at: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)


class SharedLog:
    """One log; see the module. Closed by whoever made it.

    Args:
        kind: what its messages are called.
        lines: the log, from where it is to begin.
        masker: the masker to use now.
        lasting: whether it is the same for ever when it has ended, as a build's is.
        most: bytes in the file.
    """

    def __init__(
        self,
        kind: str,
        lines: Lines,
        masker: Callable[[], Masker],
        *,
        lasting: bool = False,
        most: int = MOST_SPOOLED,
    ) -> None:
        self._head = b'{"type":' + json.dumps(kind).encode() + b',"lines":['
        self._lasting = lasting
        self._most = most
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with this
        self._pieces: list[_Piece] = []
        self._size = 0
        self._begun_anew = False
        self._ended = False
        self._followers: set[_Follower] = set()
        self._taken = asyncio.Event()
        self._task = asyncio.create_task(self._read(lines, MaskedStream(masker)), name=f"read {kind}")

    @property
    def open(self) -> bool:
        """Whether somebody more may follow it, and gets all that a reader of its own would."""
        return not self._begun_anew and (self._lasting or not self._ended)

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._file.close()

    async def messages(self, tail: int | None = None) -> AsyncGenerator[bytes, None]:
        """Messages as JSON objects that hold as many lines as there are, or as a message may hold.

        Args:
            tail: begin with so many of the last lines; None: with the first.
        """
        mine = _Follower()
        if tail is not None:
            mine.at, begin = self._behind(tail)
        self._followers.add(mine)
        try:
            if tail is not None and begin:
                yield self._message(begin)
            while (message := await self._next(mine)) is not None:
                yield message
        finally:
            self._followers.discard(mine)
            self._taken.set()

    # ------------------------------------------------------------------ followers

    async def _next(self, mine: _Follower) -> bytes | None:
        """What is there behind what was taken; None at the log's end."""
        while mine.at == len(self._pieces):
            if self._ended:
                return None
            mine.more.clear()
            await mine.more.wait()
        start, end = self._pieces[mine.at].start, 0
        while mine.at < len(self._pieces) and (not end or self._pieces[mine.at].end - start <= MOST_BYTES):
            end = self._pieces[mine.at].end
            mine.at += 1
        self._taken.set()
        return self._message(os.pread(self._file.fileno(), end - start, start))

    def _message(self, lines: bytes) -> bytes:
        return self._head + lines.rstrip(b",") + b"]}"

    def _behind(self, tail: int) -> tuple[int, bytes]:
        """The first piece that is taken whole when the last `tail` lines are wanted, and what is wanted before it."""
        at, missing = len(self._pieces), tail
        while at and missing >= self._pieces[at - 1].lines:
            at -= 1
            missing -= self._pieces[at].lines
        if not at or not missing:
            return at, b""
        piece = self._pieces[at - 1]
        text = os.pread(self._file.fileno(), piece.end - piece.start, piece.start)
        return at, _encoded(json.loads(b"[" + text.rstrip(b",") + b"]")[-missing:])

    # --------------------------------------------------------------------- reader

    async def _read(self, lines: Lines, masked: MaskedStream) -> None:
        try:
            async with aclosing(lines) as closing:
                async for some in closing:
                    await self._take(masked.feed(some))
            await self._take(masked.flush())
        except PreviewError as error:
            await self._take([f"… the log cannot be read any more: {error} …"])
        except Exception:
            log.exception("log.read")
        self._ended = True
        self._tell()

    async def _take(self, lines: list[str]) -> None:
        """Add lines, in pieces that a message can hold."""
        begin = size = 0
        for number, line in enumerate(lines, 1):
            size += len(line) + 1
            if size > MOST_CHARS or number == len(lines):
                await self._add(lines[begin:number])
                begin, size = number, 0

    async def _add(self, lines: list[str]) -> None:
        data = _encoded(lines)
        if self._size and self._size + len(data) > self._most:
            await self._begin_anew()
        self._file.write(data)
        self._file.flush()
        self._pieces.append(_Piece(self._size, self._size + len(data), len(lines)))
        self._size += len(data)
        self._tell()
        await asyncio.sleep(0)  # a log that says much does not keep everybody waiting

    async def _begin_anew(self) -> None:
        """Wait until everybody has taken all, and forget it."""
        while any(one.at < len(self._pieces) for one in self._followers):
            self._taken.clear()
            await self._taken.wait()
        self._begun_anew = True
        self._file.seek(0)
        self._file.truncate()
        self._pieces.clear()
        self._size = 0
        for one in self._followers:
            one.at = 0

    def _tell(self) -> None:
        for one in self._followers:
            one.more.set()


@dataclass(eq=False, slots=True)
class _Shared:
    """A log, and how many follow it."""

    log: SharedLog
    users: int = 0


class SharedLogs:
    """The logs that are followed by now, by what they are."""

    def __init__(self) -> None:
        self._logs: dict[Hashable, _Shared] = {}

    @asynccontextmanager
    async def shared(self, key: Hashable, make: Callable[[], SharedLog]) -> AsyncIterator[SharedLog]:
        """The log of that key, made if nobody follows it yet; a new one where that has ended, or lost its beginning."""
        present = self._logs.get(key)
        if present is None or not present.log.open:
            present = self._logs[key] = _Shared(make())
        present.users += 1
        try:
            yield present.log
        finally:
            present.users -= 1
            if not present.users:
                if self._logs.get(key) is present:
                    del self._logs[key]
                await present.log.close()


def _encoded(lines: list[str]) -> bytes:
    """Lines as the inside of a JSON list, with a comma behind."""
    return (json.dumps(lines, ensure_ascii=False, separators=(",", ":"))[1:-1] + ",").encode(errors="replace")
