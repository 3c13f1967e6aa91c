"""The stand-in, by itself: no controllers, so that nothing happens but what is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.differential.target import Target, connect
from tests.cluster.standin.server import ApiServer
from tests.cluster.standin.store import Store


class _Now:
    """The time as it is."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class _NoLogs:
    """No container ever ran."""

    def lines(self, namespace: str, pod: str, container: str, *, previous: bool) -> list[tuple[datetime, str]]:
        raise KeyError(container)

    async def follow(self, namespace: str, pod: str, container: str) -> AsyncIterator[tuple[datetime, str]]:
        for line in self.lines(namespace, pod, container, previous=False):
            yield line


@asynccontextmanager
async def standin() -> AsyncIterator[Target]:
    """A stand-in with an empty store, reached by its kubeconfig as any other server."""
    server = ApiServer(store=Store(), logs=_NoLogs(), clock=_Now())
    await server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with connect(server.kubeconfig(Path(folder), "admin")) as target:
                target.issue = server.token
                yield target
    finally:
        await server.stop()
