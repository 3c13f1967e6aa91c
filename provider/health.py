"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from provider.errors import PreviewError
from provider.platforms.base import PartStatus

Parts = Callable[[], Awaitable[list[PartStatus]]]

PATIENCE_SECONDS = 5.0
"""Whoever asks waits no longer than a few seconds: a part that hangs has to be told in that time."""


class Health:
    """Answers both.

    Args:
        own: the provider's own state, asked at each `/readyz`.
        platform: the state of what it works with, too; not ready while anything of both is not ok.
        patience: seconds within which the platform has to answer.
    """

    def __init__(
        self, own: Callable[[], list[PartStatus]], platform: Parts, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._own = own
        self._platform = platform
        self._patience = patience

    def routes(self) -> list[web.RouteDef]:
        """What the HTTP server serves of this."""
        return [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)]

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        parts = [*self._own(), *await self._platform_parts()]
        ready = all(part.ok for part in parts)
        rows = [{"name": part.name, "ok": part.ok, "detail": part.detail, "hint": part.hint} for part in parts]
        return web.json_response({"ready": ready, "parts": rows}, status=200 if ready else 503)

    async def _platform_parts(self) -> list[PartStatus]:
        try:
            async with asyncio.timeout(self._patience):
                return await self._platform()
        except TimeoutError:
            return [PartStatus("platform", False, f"did not say how it is within {self._patience:g} s")]
        except PreviewError as error:
            return [PartStatus("platform", False, str(error), error.hint or "")]
