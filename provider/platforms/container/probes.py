"""Probes of what runs: ready or not, alive or not, and why not.

The engine has no HTTP probes of its own (its health checks run a command inside the container, which an
image need not have), so the provider asks, as a kubelet does: an answer from 200 to 399 is a success.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import structlog

from provider.errors import PreviewError
from provider.http_client import http_client
from provider.platforms.container.workload import Probe, Workload

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.01
LISTEN_STATE = "0A"


class Prober:
    """Asks one address for one workload's probes.

    Args:
        address: the container's IPv4 address.
        work: its port and probes.
    """

    def __init__(self, address: str, work: Workload) -> None:
        self._address = address
        self._base = f"http://{address}:{work.port}"
        self._work = work
        self.last = "not asked yet"

    async def until_ready(self) -> None:
        """Return at the first success; asks often at first, so that a fast app is ready fast."""
        probe = self._work.startup or self._work.readiness
        await asyncio.sleep(probe.initial_delay)
        pause = FIRST_PAUSE
        async with self._client() as client:
            while not await self._ask(client, probe):
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, probe.period)

    async def until_dead(self) -> None:
        """Return when the liveness probe failed as often in a row as the spec allows."""
        probe = self._work.liveness
        await asyncio.sleep(probe.initial_delay)
        failures = 0
        async with self._client() as client:
            while failures < probe.failures:
                await asyncio.sleep(probe.period)
                failures = 0 if await self._ask(client, probe) else failures + 1

    def _client(self) -> httpx.AsyncClient:
        return http_client(keep_alive=False, http2=self._work.http2)

    async def _ask(self, client: httpx.AsyncClient, probe: Probe) -> bool:
        if probe.path is None:
            return await self._connects(probe)
        try:
            async with asyncio.timeout(probe.timeout), client.stream("GET", self._base + probe.path) as answer:
                self.last = f"GET {probe.path} answered {answer.status_code}"
                return 200 <= answer.status_code < 400
        except TimeoutError:
            self.last = f"GET {probe.path} did not answer within {probe.timeout:g} s"
        except httpx.HTTPError as error:
            self.last = f"GET {probe.path}: {error}"
        return False

    async def _connects(self, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(probe.timeout):
                _, writer = await asyncio.open_connection(self._address, self._work.port)
        except (TimeoutError, OSError) as error:
            self.last = f"connecting to port {self._work.port}: {error or 'no answer'}"
            return False
        writer.close()
        self.last = f"port {self._work.port} accepts connections"
        return True


def startup_budget(work: Workload) -> float:
    """Seconds after which an app that never became ready is given up, as its probes say.

    With a startup probe that is its own product; without one it is when liveness would kill the app.
    """
    probe = work.startup or work.liveness
    return probe.initial_delay + probe.period * probe.failures


def listening(pid: int) -> tuple[tuple[str, int], ...]:
    """(address, port) of every TCP socket that listens in a process's network, from /proc."""
    found: set[tuple[str, int]] = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == LISTEN_STATE:
                address, _, port = local.partition(":")
                found.add((_address(address, family), int(port, 16)))
    return tuple(sorted(found))


def _address(text: str, family: socket.AddressFamily) -> str:
    """/proc prints addresses as 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return socket.inet_ntop(family, b"".join(struct.pack("=I", word) for word in words))


class Liveness:
    """Watches what serves and has it restarted when it stopped answering; one task a preview."""

    def __init__(self, restart: Callable[[str], Awaitable[None]]) -> None:
        self._restart = restart
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, slug: str, container: str, prober: Prober) -> None:
        """Watch this container for the preview from now on, instead of an earlier one."""
        self.forget(slug)
        self._tasks[slug] = asyncio.create_task(self._run(slug, container, prober))

    def forget(self, slug: str) -> None:
        """Stop watching."""
        task = self._tasks.pop(slug, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop watching everything."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, slug: str, container: str, prober: Prober) -> None:
        while True:
            await prober.until_dead()
            log.warning("liveness.restart", slug=slug, container=container, last=prober.last)
            try:
                await self._restart(container)
            except PreviewError as error:
                log.warning("liveness.restart_failed", slug=slug, error=str(error))
