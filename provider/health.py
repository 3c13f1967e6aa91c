"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from provider.platforms.base import PartStatus

Parts = Callable[[], Awaitable[list[PartStatus]]]


class Health:
    """Answers both.

    Args:
        parts: asked at each `/readyz`; not ready while one of them is not ok.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What the HTTP server serves of this."""
        return [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)]

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        parts = await self._parts()
        ready = all(part.ok for part in parts)
        rows = [{"name": part.name, "ok": part.ok, "detail": part.detail, "hint": part.hint} for part in parts]
        return web.json_response({"ready": ready, "parts": rows}, status=200 if ready else 503)
