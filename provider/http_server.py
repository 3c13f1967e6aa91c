"""The provider's one HTTP server: it is given routes by the parts that have something to show."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

SHUTDOWN_SECONDS = 1.0
"""For what is being answered when it closes."""


class HttpServer:
    """A small HTTP server for the routes of several parts.

    Args:
        address: host:port; no host: every address; port 0: any free one.
        routes: what is answered.
    """

    def __init__(self, address: str, routes: Iterable[web.AbstractRouteDef]) -> None:
        host, _, self._port = address.rpartition(":")
        self._host = host.removeprefix("[").removesuffix("]")
        app = web.Application()
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    async def start(self) -> str:
        """Listen; returns host:port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, int(self._port)).start()
        host, port = self._runner.addresses[0][:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
