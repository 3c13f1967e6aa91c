"""A real nats-server on a free port, ready when its own log says so."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from provider.demo.processes import free_port

_PREFIXES = itertools.count(1)


class NatsServer:
    def __init__(self, folder: Path, *arguments: str, jetstream: bool = True) -> None:
        binary = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
        if binary is None:
            pytest.skip("nats-server is not installed")
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [binary, "-a", "127.0.0.1", "-p", str(self.port), *arguments]
        if jetstream:
            self._command += ["-js", "-sd", str(folder)]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        log = process.stderr
        seen = []
        for line in log:
            seen.append(line)
            if "Server is ready" in line:
                break
        else:
            process.wait()
            raise RuntimeError("".join(seen))
        self._process = process
        self._reader = threading.Thread(target=lambda: [None for _ in log], daemon=True)
        self._reader.start()

    def stop(self) -> None:
        if self._process and self._reader and self._process.stderr:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process.stderr.close()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The server that tests share; each uses a prefix of its own."""
    shared = NatsServer(tmp_path_factory.mktemp("nats"))
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., NatsServer]]:
    """Starts servers that the test may stop and restart."""
    started: list[NatsServer] = []

    def start(*arguments: str, jetstream: bool = True) -> NatsServer:
        own = NatsServer(tmp_path / f"nats{len(started)}", *arguments, jetstream=jetstream)
        own.start()
        started.append(own)
        return own

    yield start
    for own in started:
        own.stop()


async def _quiet(_: Exception) -> None:
    """Restarts are meant to happen here; the client would log each."""


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., object]]:
    """Connects clients that are closed with the test."""
    clients: list[Client] = []

    async def to(url: str) -> Client:
        nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_quiet)
        clients.append(nc)
        return nc

    yield to
    for nc in clients:
        await nc.close()


@pytest.fixture
async def nc(server: NatsServer, connect: Callable[..., object]) -> Client:
    """A client of the shared server."""
    return await connect(server.url)  # type: ignore[no-any-return,misc]


@pytest.fixture
def prefix() -> str:
    """A subject prefix that no other test uses."""
    return f"t.p{next(_PREFIXES)}"
