"""The provider as a process: from its settings to its exit code; and a look at its parts without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import httpx
import structlog

from provider import logs
from provider.bus.connection import connect
from provider.bus.identity import BusClient
from provider.errors import Temporary
from provider.http_client import http_client
from provider.platforms.base import PartStatus
from provider.platforms.choice import open_platform
from provider.service import Provider
from provider.settings import Settings

log = structlog.get_logger(__name__)

START_SECONDS, START_PAUSE = 20.0, 0.5
"""How long a start is tried again, and after what pause: an outage of moments need not be a supervisor's matter."""
END_SECONDS = 9.0
"""From SIGTERM to the end, whatever hangs: Kubernetes and systemd kill a while later, and may be set to less."""


async def serve(settings: Settings) -> int:
    """Run a provider until SIGTERM or SIGINT; returns the process's exit code (0: ended as asked)."""
    logs.configure(settings)
    stop = asyncio.Event()
    causes: list[str] = []

    def closed() -> None:
        causes.append("the bus connection was closed for good")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        nc = await connect(settings, closed)
        stack.push_async_callback(nc.close)
        http = await stack.enter_async_context(platform_client(settings))
        starting = asyncio.create_task(_started(settings, nc, http))
        stack.push_async_callback(_ended, starting)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()  # or why it did not start
        await stopped
        log.info("provider.stopping", why=causes or "asked to")
        status = int(bool(causes))  # before we close it ourselves
        loop.call_later(END_SECONDS, _end, status)
    return status


async def _ended(starting: asyncio.Task[Provider]) -> None:
    """Close the provider, or give its start up: then nothing of it is left either."""
    starting.cancel()
    (outcome,) = await asyncio.gather(starting, return_exceptions=True)
    if isinstance(outcome, Provider):
        await outcome.close()


async def _started(settings: Settings, nc: BusClient, http: httpx.AsyncClient) -> Provider:
    """A provider that takes requests; a part of the platform that is away at its start is waited for a little."""
    patience = time.monotonic() + START_SECONDS
    while True:
        try:
            return await _start(await Provider.build(settings, nc, http))
        except Temporary as error:
            if time.monotonic() > patience:
                raise
            log.warning("provider.not_started", error=str(error), evidence=error.evidence)
        await asyncio.sleep(START_PAUSE)


async def _start(provider: Provider) -> Provider:
    """Start it; nothing of it is left where that fails."""
    try:
        await provider.start()
    except BaseException:
        await provider.close()
        raise
    return provider


def _end(status: int) -> None:
    """End the process as a kill would, which every record allows: something did not let go in time."""
    log.warning("provider.killed_itself")
    os._exit(status)


async def parts(settings: Settings) -> list[PartStatus]:
    """The state of every part that the chosen platform needs, for `doctor`; takes no lock, starts nothing."""
    async with platform_client(settings) as http:
        platform = await open_platform(settings, http)
        try:
            return [*await platform.parts(), *await platform.permissions()]
        finally:
            await platform.close()


def platform_client(settings: Settings) -> httpx.AsyncClient:
    """The client for the platform's API, git's host, the registry and Caddy's admin API.

    Reading the world's certificate authorities takes 40 ms, so that is done only where one of them speaks TLS.
    """
    urls = (settings.api_url, settings.git_base_url, settings.caddy_admin_url)
    plain = settings.registry_insecure and not any(url.startswith("https") for url in urls)
    return http_client(trust=None if plain else httpx.create_ssl_context(trust_env=False))
