"""HTTP clients: httpx's, over aiohttp's connections: a request takes half of the processor's time."""

from __future__ import annotations

import os
import ssl
from socket import gaierror

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from httpx_aiohttp import AiohttpTransport

TIMEOUT = 5.0
MOST_HEADER_BYTES = 64 << 10
"""Of one header; aiohttp's own limit, 8 KB, is less than browsers take."""


def http_client(
    *,
    trust: ssl.SSLContext | None = None,
    timeout: float = TIMEOUT,
    keep_alive: bool = True,
    http2: bool = False,
    socket: str | None = None,
) -> httpx.AsyncClient:
    """A client that follows no redirects; cookies are httpx's matter, and proxies of the environment are not asked.

    Args:
        trust: whose certificates are trusted; None: nothing will be asked by TLS.
        timeout: seconds for a connection, and between two parts of an answer.
        keep_alive: whether a connection is used again; else each request has one of its own.
        http2: speak HTTP/2, without TLS, too; aiohttp does not, so that is httpx alone.
        socket: the path of a Unix socket that every request goes to.

    What fails on the way is an `httpx.TransportError`.
    """
    # A context without authorities: reading all the world's takes 40 ms, and httpx does it where it gets none.
    context = trust or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if http2:
        limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)
        return httpx.AsyncClient(
            verify=context, trust_env=False, http1=False, http2=True, timeout=timeout, limits=limits
        )

    def session() -> aiohttp.ClientSession:
        connector: aiohttp.BaseConnector
        if socket is not None:
            connector = aiohttp.UnixConnector(path=socket, limit=0)
        else:
            connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=not keep_alive)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            max_line_size=MOST_HEADER_BYTES,
            max_field_size=MOST_HEADER_BYTES,
        )

    transport = _Transport(verify=context, trust_env=False, client=session)
    return httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout)


class _Transport(AiohttpTransport):
    """Tells every failure in httpx's words: the library knows not all of aiohttp's, and calls a broken one late."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        try:
            return await super().handle_async_request(request)
        except httpx.TimeoutException as error:
            cause = error.__cause__
            if isinstance(cause, TimeoutError):
                raise
            if isinstance(cause, aiohttp.ClientConnectorError):
                raise httpx.ConnectError(_unconnected(cause), request=request) from error
            raise httpx.RemoteProtocolError(str(error) or repr(cause), request=request) from error
        except (aiohttp.ClientError, HttpProcessingError) as error:
            raise httpx.RemoteProtocolError(str(error) or repr(error), request=request) from error


def _unconnected(error: aiohttp.ClientConnectorError) -> str:
    """Where to, and why not: aiohttp's own words speak of TLS where there is none."""
    cause = error.os_error
    plain = cause.errno and not isinstance(cause, ssl.SSLError | gaierror)
    why = os.strerror(cause.errno) if plain and cause.errno else str(cause)
    return f"cannot connect to {error.host}:{error.port}: {why}"
