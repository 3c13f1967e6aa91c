"""Small HTTP servers on a free port of this machine, for the demo and for the tests.

What they have in common: start and stop as an async context manager, and switches with which a test
makes them fail the way real servers do.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web


class LoopbackServer:
    """An HTTP server on 127.0.0.1.

    Attributes:
        host, port: where to listen, to be changed before it starts (a cluster's pods do not see our loopback); port 0:
            any free one.
        requests: how many requests came, whatever their answer.
        fail_with: answer every request with this status.
        hang: answer nothing; `hanging` is set as soon as a request hangs.
    """

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.requests = 0
        self.fail_with: int | None = None
        self.hang = False
        self.hanging = asyncio.Event()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; subclasses do."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Git's bodies stay gzipped: http-backend unpacks them itself.
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.url = f"http://{self.host}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.hang:
            self.hanging.set()
            await self._stopping.wait()
        if self.fail_with is not None:
            return web.Response(status=self.fail_with, text="told to fail\n")
        return await self.respond(request)
