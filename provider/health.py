"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from provider.platforms.base import PartStatus

Parts = Callable[[], Awaitable[list[PartStatus]]]


class HealthServer:
    """A small HTTP server on `address` (host:port; port 0: any free one).

    Args:
        parts: asked at each `/readyz`; not ready while one of them is not ok.
    """

    def __init__(self, address: str, parts: Parts) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._parts = parts
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> str:
        """Listen; returns host:port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, int(self._port)).start()
        host, port = self._runner.addresses[0][:2]
        return f"{host}:{port}"

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        parts = await self._parts()
        ready = all(part.ok for part in parts)
        rows = [{"name": part.name, "ok": part.ok, "detail": part.detail, "hint": part.hint} for part in parts]
        return web.json_response({"ready": ready, "parts": rows}, status=200 if ready else 503)
