"""A server that answers whatever it is told to, byte by byte, and counts what anybody takes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ENDLESS = 64 << 20
"""Bytes of an answer that does not end by itself."""
PIECE = 64 << 10


@dataclass(frozen=True)
class Reply:
    """One answer: its bytes, and what is sent again and again after them."""

    data: bytes
    endless: bytes = b""


@dataclass
class Hostile:
    """The server; the replies are given one after the other, the last one for ever."""

    address: str = ""
    replies: list[Reply] = field(default_factory=list)
    asked: int = 0
    sent: int = 0

    def tell(self, *replies: Reply) -> None:
        """Answer like this from now on."""
        self.replies, self.asked, self.sent = list(replies), 0, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of a connection, and close it."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            reply = self.replies[min(self.asked, len(self.replies) - 1)]
            self.asked += 1
            await self._send(writer, reply.data)
            while reply.endless and self.sent < ENDLESS:
                await self._send(writer, reply.endless * (PIECE // len(reply.endless)))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)


@asynccontextmanager
async def hostile_server(socket: Path | None = None) -> AsyncIterator[Hostile]:
    """A server on a free port, or on that socket."""
    hostile = Hostile()
    if socket is not None:
        server = await asyncio.start_unix_server(hostile.serve, socket)
        hostile.address = f"unix://{socket}"
    else:
        server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
        hostile.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield hostile
    finally:
        server.close()
        await server.wait_closed()


def http(status: int, body: bytes, **headers: str) -> Reply:
    """A whole answer of HTTP."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Reply("\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + body)


def endless(status: int = 200, *, begin: bytes = b"", more: bytes = b" ", head: str = "X-Odd: yes") -> Reply:
    """One whose body does not end."""
    lines = [f"HTTP/1.1 {status} Said", "Connection: close", head]
    return Reply("\r\n".join(lines).encode() + b"\r\n\r\n" + begin, more)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
STATUS = st.just(200) | st.sampled_from([201, 204, 301, 307, 400, 401, 403, 404, 405, 429, 500, 503])
DEEP = b"[" * 200_000
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def replies(*keys: str) -> st.SearchStrategy[Reply]:
    """Answers like those that are expected, with those fields, and wrong in some way; or none at all."""
    like = st.dictionaries(st.sampled_from(keys), JSON, max_size=len(keys)).map(_encoded)
    bodies = like | JSON.map(_encoded) | st.binary(max_size=60) | st.just(DEEP)
    headers = st.fixed_dictionaries(
        {},
        optional={
            "Content_Type": st.sampled_from(["application/json", "text/html", "application/x-git-upload-pack-result"]),
            "Location": HEADER | st.sampled_from(["/v2/", "http://[", "//", "file:///etc/passwd"]),
            "Docker_Content_Digest": HEADER,
            "WWW_Authenticate": HEADER
            | st.sampled_from(["Bearer", 'Bearer realm="http://["', 'Bearer realm="x:"', "Basic"]),
            "Content_Encoding": st.sampled_from(["gzip", "deflate", "identity", "nonsense"]),
            "Transfer_Encoding": st.sampled_from(["chunked", "gzip, chunked"]),
        },
    )
    plain = st.builds(http, STATUS, bodies)
    whole = plain | plain | st.builds(lambda status, body, more: http(status, body, **more), STATUS, bodies, headers)
    cut = st.builds(lambda reply, end: Reply(reply.data[:end]), whole, st.integers(0, 200))
    return whole | cut | st.binary(max_size=80).map(Reply)


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
