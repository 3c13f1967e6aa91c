"""A provider on the container engine that kills itself, truly, at the point that a file names.

Run as a process of its own: `python -m tests.crash.engine_provider`. What leaves it passes `Death`: messages,
calls of the engine that change something, Caddy's configuration, routes, secret files, builds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from provider import logs
from provider.bus.identity import BusClient
from provider.models import Bundle, SecretValues
from provider.platforms.base import BuildPlan
from provider.platforms.container import platform as engine_platform
from provider.platforms.container.builds import Builds
from provider.platforms.container.engine import Engine
from provider.platforms.container.routes import Route, RouteTable
from provider.platforms.container.secrets import SecretFiles
from provider.service import Provider
from provider.settings import Settings
from tests.crash.gate import Point, Side, message_name

FOLDER = "CRASH_FOLDER"
ARMED = "armed.json"
"""What the test writes there: a number of its own for each scenario, and the point, if somebody shall die."""
ON_ITS_WAY = 0.02


class Death:
    """Counts effects while the file is there, writes each down, and ends the process at the point."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / ARMED
        self._folder = folder
        self._number = -1
        self._count: Counter[str] = Counter()

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """An effect; it is one also if it is refused."""
        armed = self._armed()
        if armed is None:
            yield
            return
        self._count[name] += 1
        nth = self._count[name]
        with (self._folder / f"effects-{armed['number']}").open("a") as effects:
            effects.write(f"{name}\n")
        self._die_at(armed, Point(name, nth, Side.BEFORE))
        try:
            yield
        finally:
            self._die_at(armed, Point(name, nth, Side.AFTER))

    def _armed(self) -> dict[str, Any] | None:
        try:
            armed: dict[str, Any] = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if armed["number"] != self._number:
            self._number, self._count = armed["number"], Counter()
        return armed

    def _die_at(self, armed: dict[str, Any], here: Point) -> None:
        if armed["point"] == str(here):
            time.sleep(ON_ITS_WAY)  # what was sent has left
            os.kill(os.getpid(), signal.SIGKILL)


class MortalClient(BusClient):
    """A NATS client whose messages are effects."""

    def __init__(self, death: Death) -> None:
        super().__init__()
        self._death = death

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """See `Client`."""
        name = message_name(subject, payload)
        if name is None or name.startswith("kv leases"):
            await super().publish(subject, payload, reply, headers)
            return
        with self._death.around(name):
            await super().publish(subject, payload, reply, headers)
            await self._flush_pending()


class MortalTransport(httpx.AsyncHTTPTransport):
    """A transport whose changes of Caddy's configuration are effects."""

    def __init__(self, death: Death, caddy: str) -> None:
        super().__init__()
        self._death, self._caddy = death, httpx.URL(caddy).port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `AsyncHTTPTransport`."""
        if request.url.port != self._caddy or request.method == "GET":
            return await super().handle_async_request(request)
        with self._death.around(f"caddy {request.method} {request.url.path}"):
            return await super().handle_async_request(request)


class MortalEngine(Engine):
    """Podman's API."""

    death: Death

    async def create(self, name: str, config: dict[str, Any]) -> None:
        with self.death.around("engine create"):
            await super().create(name, config)

    async def start(self, name: str) -> None:
        with self.death.around("engine start"):
            await super().start(name)

    async def stop(self, name: str, grace_seconds: int) -> None:
        with self.death.around("engine stop"):
            await super().stop(name, grace_seconds)

    async def remove(self, name: str) -> bool:
        with self.death.around("engine remove"):
            return await super().remove(name)

    async def tag(self, image_id: str, reference: str) -> None:
        with self.death.around("engine tag"):
            await super().tag(image_id, reference)

    async def create_network(self, name: str, bridge: str, labels: dict[str, str]) -> dict[str, Any]:
        with self.death.around("engine create network"):
            return await super().create_network(name, bridge, labels)

    async def remove_network(self, name: str) -> bool:
        with self.death.around("engine remove network"):
            return await super().remove_network(name)


class MortalRoutes(RouteTable):
    """The files that Caddy reads."""

    death: Death

    def put(self, route: Route, expected_generation: int | None = None) -> None:
        with self.death.around("route put"):
            super().put(route, expected_generation)

    def remove(self, slug: str) -> bool:
        with self.death.around("route remove"):
            return super().remove(slug)


class MortalSecrets(SecretFiles):
    """Secret values."""

    death: Death

    def stage(self, staged: str, values: SecretValues) -> str:
        with self.death.around("secrets stage"):
            return super().stage(staged, values)

    def bundle(
        self, staged: str, slug: str, generation: int, secret_names: tuple[str, ...], reuse: tuple[Bundle, ...]
    ) -> Bundle | None:
        with self.death.around("secrets bundle"):
            return super().bundle(staged, slug, generation, secret_names, reuse)

    def drop(self, staged: str) -> None:
        with self.death.around("secrets drop"):
            super().drop(staged)


class MortalBuilds(Builds):
    """Builder processes and their folders."""

    death: Death

    async def _start(self, folder: Path, plan: BuildPlan) -> None:
        with self.death.around("build start"):
            await super()._start(folder, plan)

    async def stop(self, slug: str, build_inputs: str) -> None:
        with self.death.around("build stop"):
            await super().stop(slug, build_inputs)

    async def forget(self, slug: str, build_inputs: str) -> None:
        with self.death.around("build forget"):
            await super().forget(slug, build_inputs)


def _make_mortal(provider: Provider, death: Death) -> None:
    """Each part becomes one of a class whose effects are counted."""
    platform: Any = provider._platform
    parts: tuple[tuple[Any, type], ...] = (
        (platform._engine, MortalEngine),
        (platform._ingress._table, MortalRoutes),
        (platform._secrets, MortalSecrets),
        (platform._builds, MortalBuilds),
    )
    for part, mortal in parts:
        part.__class__, part.death = mortal, death


async def _serve() -> None:
    settings, death = Settings(), Death(Path(os.environ[FOLDER]))
    logs.configure(settings)
    engine_platform.DRAIN_SECONDS, engine_platform.FORGET_SECONDS = 0.2, 0.0
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    nc = MortalClient(death)
    await nc.connect(settings.nats_url)
    async with httpx.AsyncClient(transport=MortalTransport(death, settings.caddy_admin_url), trust_env=False) as http:
        provider = await Provider.build(settings, nc, http)
        _make_mortal(provider, death)
        await provider.start()
        await stop.wait()
        await provider.close()
    await nc.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve()))
