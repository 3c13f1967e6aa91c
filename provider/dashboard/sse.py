"""Server-sent events: one answer that goes on for as long as somebody reads it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from provider.dashboard.access import HEADERS

RETRY_MILLISECONDS = 1000
QUIET_SECONDS = 10.0
"""A reader that heard nothing for twice as long knows that its connection is dead."""


class Gone(ConnectionError):
    """Nobody reads any more."""


class EventStream:
    """Sends events over one answer; several tasks may send at once."""

    def __init__(self, answer: web.StreamResponse) -> None:
        self.answer = answer
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, request: web.Request) -> EventStream:
        """Begin to answer."""
        answer = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"})
        await answer.prepare(request)
        stream = cls(answer)
        await stream._write(f"retry: {RETRY_MILLISECONDS}\n\n")
        return stream

    async def event(self, name: str, data: Mapping[str, Any], mark: str = "") -> None:
        """Send one; waits until there is room for it.

        Raises:
            Gone: nobody reads any more.
        """
        identity = f"id: {mark}\n" if mark else ""
        await self._write(f"event: {name}\n{identity}data: {json.dumps(data, separators=(',', ':'))}\n\n")

    async def _write(self, text: str) -> None:
        try:
            async with self._turn:
                await self.answer.write(text.encode())
        except ConnectionError:
            raise Gone from None
