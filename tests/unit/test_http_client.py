"""The HTTP client: whatever an other end does, its failure is told in httpx's words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from provider.http_client import http_client

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@contextlib.asynccontextmanager
async def answering(
    answer: bytes | None, asked: list[bytes] | None = None, ports: list[int] | None = None
) -> AsyncIterator[str]:
    """The URL of a server that answers each request of a connection with these bytes; None: with nothing.

    It notes the requests' heads, and the other end's port of each connection.
    """
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        if ports is not None:
            ports.append(writer.get_extra_info("peername")[1])
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if asked is not None:
                    asked.append(head)
                if answer is None:
                    await reader.read()
                    break
                writer.write(answer)
                await writer.drain()
                if b"Content-Length" not in answer:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for connection in connections:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in connections), return_exceptions=True)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 99999 What\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", httpx.TransportError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", httpx.ReadError),
        (None, httpx.ReadTimeout),
    ],
)
async def test_an_answer_that_is_none(answer: bytes | None, failure: type[Exception]) -> None:
    async with answering(answer) as url, http_client(timeout=0.5) as client:
        with pytest.raises(failure):
            await client.get(url)


async def test_nobody_listens(unused_tcp_port_factory: Callable[[], int]) -> None:
    async with http_client() as client:
        with pytest.raises(httpx.ConnectError, match=r"cannot connect to 127\.0\.0\.1:[0-9]+: Connection refused"):
            await client.get(f"http://127.0.0.1:{unused_tcp_port_factory()}/")


async def test_no_socket(tmp_path: Path) -> None:
    async with http_client(socket=str(tmp_path / "none")) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("http://engine/")


async def test_what_speaks_no_tls() -> None:
    async with answering(OK + b"\r\nok") as url, http_client(timeout=0.5) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url.replace("http:", "https:"))


async def test_headers_that_browsers_take() -> None:
    async with answering(OK + b"X-Long: " + b"x" * 30_000 + b"\r\n\r\nok") as url, http_client() as client:
        answer = await client.get(url)
    assert (answer.text, len(answer.headers["x-long"])) == ("ok", 30_000)


async def test_nothing_is_sent_that_nobody_asked_for() -> None:
    asked: list[bytes] = []
    async with answering(OK + b"Set-Cookie: id=1\r\n\r\nok", asked) as url, http_client() as client:
        for _ in range(2):
            await client.post(url, content=b"", headers={"User-Agent": "me"})
    heads = [head.lower() for head in asked]
    assert all(b"user-agent: me" in head and b"content-type" not in head for head in heads)
    assert [head.count(b"id=1") for head in heads] == [0, 1], "one jar keeps cookies, not both"


@pytest.mark.parametrize(("keep_alive", "connections"), [(True, 1), (False, 2)])
async def test_connections(keep_alive: bool, connections: int) -> None:
    ports: list[int] = []
    async with answering(OK + b"\r\nok", ports=ports) as url, http_client(keep_alive=keep_alive) as client:
        assert [(await client.get(url)).text for _ in range(2)] == ["ok", "ok"]
    assert len(ports) == connections
