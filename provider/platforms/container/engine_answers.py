"""What the engine answered, as far as it can be read: bounded, whatever it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx

MOST_BYTES = 32 << 20
"""Of one answer, or one frame of a log."""
MOST_LINE = 1 << 20
"""Bytes of one event."""


class TooMuch(httpx.HTTPError, aiohttp.ClientError):
    """More than anybody reads of an answer."""

    def __init__(self) -> None:
        super().__init__("more than is read of an answer")


class BoundedResponse(aiohttp.ClientResponse):
    """An answer to Docker's client, which would read without end."""

    async def read(self) -> bytes:
        """See `ClientResponse`. Raises TooMuch."""
        if self._body is None:
            try:
                self._body = await _joined(self.content.iter_any())
            except BaseException:
                self.close()
                raise
        return self._body


async def whole(answer: httpx.Response) -> bytes:
    """All of an answer. Raises TooMuch."""
    return await _joined(answer.aiter_bytes())


async def lines(answer: httpx.Response) -> AsyncIterator[Any]:
    """An answer that is a JSON object on each line, as they come. Raises ValueError, TooMuch."""
    rest = b""
    async for data in answer.aiter_bytes():
        *complete, rest = (rest + data).split(b"\n")
        for line in complete:
            if line.strip():
                yield json.loads(line)
        if len(rest) > MOST_LINE:
            raise TooMuch
    if rest.strip():
        yield json.loads(rest)


async def frames(answer: httpx.Response) -> AsyncIterator[bytes]:
    """What a container said, out of its frames: each the stream's number, three zeros, its size, and that many bytes.

    Raises TooMuch.
    """
    framed = bytearray()
    async for data in answer.aiter_raw():
        framed += data
        while len(framed) >= 8:
            end = 8 + int.from_bytes(framed[4:8], "big")
            if end > MOST_BYTES:
                raise TooMuch
            if len(framed) < end:
                break
            yield bytes(framed[8:end])
            del framed[:end]


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    async for piece in pieces:
        data += piece
        if len(data) > MOST_BYTES:
            raise TooMuch
    return bytes(data)
