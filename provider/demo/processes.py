"""Server processes of the local stack: start, readiness, death, restart on the same port, end.

A server is ready when its own log says so: its output is read line by line, kept in a file, and the
first line that matches ends the wait. The kernel kills a server when the stack's process dies, however
that dies (`setpriv --pdeathsig`), so that nothing serves on for a stack that is gone. The parent-death
signal follows the *thread* that started the server: the loop must run in a thread that lives as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/podman:/usr/libexec/podman"
LOG_LINES_SHOWN = 15
LINE_LIMIT = 1 << 20
RETRY_INTERVAL = 0.005
# The kernel kills the child when we die. Did we die before it was told so, the child has another parent by now.
BOUND_TO_US = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


class StackError(RuntimeError):
    """The local stack cannot start or go on; the message is for the person at the terminal."""


def _hundreds_of_ports() -> Iterator[range]:
    """Ranges of ports that no other process of ours hands out: an abstract socket holds each as long as we live."""
    for first in random.sample(range(20000, 30000, 100), 100):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as ticket:
            ticket.bind(f"\0x1-preview-ports-{first}")
            yield range(first, first + 100)
            ticket.detach()  # open, so that nobody else has these, until we end


_ports = itertools.chain.from_iterable(_hundreds_of_ports())


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that this process and its like hand out only once.

    It lies below the kernel's ephemeral range: no outgoing connection takes it while its server is
    down, so a killed server can be started again on the same port.

    Raises:
        StackError: there is none left between 20000 and 29999.
    """
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise StackError("No free TCP port between 20000 and 29999 on 127.0.0.1.")


async def until_open(address: str, *, timeout: float) -> None:
    """Return as soon as something accepts connections at `host:port`; for what has no log line to wait for.

    Raises:
        TimeoutError: nothing did within `timeout` seconds.
    """
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(timeout):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(RETRY_INTERVAL)
            else:
                writer.close()
                return


def clean_environment(home: Path) -> dict[str, str]:
    """What children get instead of our own environment: no proxies, credentials or locale of the user's."""
    return {"PATH": SEARCH_PATH, "HOME": str(home), "LANG": "C.UTF-8"}


async def run(*argv: str, env: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run a short command; its exit status and its output, errors included.

    Raises:
        TimeoutError: it took longer than `timeout` seconds; it has been killed.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for us: a clean-up that it ended would leave something
    )
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await uninterrupted(process.wait())
        raise
    return process.returncode or 0, output.decode(errors="replace")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even if this task is cancelled meanwhile; the cancellation comes afterwards.

    `work` must bound its own time.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})  # being cancelled, it leaves the task alone
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


@contextlib.asynccontextmanager
async def cancelled_by_signals(*signals: signal.Signals) -> AsyncIterator[None]:
    """Cancel the present task on these signals (default SIGINT and SIGTERM), so that clean-up runs."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    chosen = signals or (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in chosen}
    for number in chosen:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in chosen:
            loop.remove_signal_handler(number)
            signal.signal(number, previous[number])


class Process(Protocol):
    """What a server uses of `asyncio.subprocess.Process`."""

    stdout: asyncio.StreamReader | None

    @property
    def pid(self) -> int:
        """Its id, also after its end."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""

    async def wait(self) -> int:
        """Its exit status, when it has ended."""


@dataclass
class Server:
    """One server process, startable again after `stop` or `kill` with the same arguments.

    Args:
        name: names the log file `<folder>/<name>.log`, to which every start appends.
        argv: the command; its ports stand in it or in its configuration, so they stay the same.
        ready: what the server's log line says when it serves.
        address: what users of the server connect to, for messages and tests.
        start_timeout, stop_timeout: seconds until readiness; seconds from SIGTERM to SIGKILL.
    """

    name: str
    argv: Sequence[str]
    ready: str
    folder: Path
    env: Mapping[str, str]
    address: str = ""
    start_timeout: float = 15.0
    stop_timeout: float = 5.0
    _process: Process | None = field(default=None, init=False)
    _reader: asyncio.Task[None] | None = field(default=None, init=False)
    _ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def log(self) -> Path:
        """The file with everything the server printed, over all its starts."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process and wait until its log says that it serves.

        Raises:
            StackError: it is running already, ended at once, or was not ready in time; with its last log lines.
        """
        if self.pid is not None:
            raise StackError(f"{self.name} is running already (pid {self.pid}).")
        self._ready.clear()
        self._process = await self._spawn()
        self._reader = asyncio.create_task(self._read(self._process), name=f"{self.name} log")
        try:
            await self._until_ready(self._process)
        except BaseException:
            await uninterrupted(self.kill())
            raise

    async def _spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *BOUND_TO_US,
            str(os.getpid()),
            *self.argv,
            env=self.env,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_LIMIT,
        )

    async def _until_ready(self, process: Process) -> None:
        ready, died = asyncio.create_task(self._ready.wait()), asyncio.create_task(process.wait())
        try:
            await asyncio.wait({ready, died}, timeout=self.start_timeout, return_when=asyncio.FIRST_COMPLETED)
            if died.done() and not self._ready.is_set():
                await self._drained()
                raise StackError(f"{self.name} ended at once with status {process.returncode}.\n{self.log_tail()}")
            if not self._ready.is_set():
                raise StackError(f"{self.name} was not ready after {self.start_timeout:g} s.\n{self.log_tail()}")
        finally:
            ready.cancel()
            died.cancel()

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        ready = re.compile(self.ready.encode())
        with self.log.open("ab", buffering=0) as log:
            while line := await process.stdout.readline():
                log.write(line)
                if ready.search(line):
                    self._ready.set()

    def log_tail(self) -> str:
        """The last log lines, for a message."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"Last lines of {self.log}:", *(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])])

    async def died(self) -> int:
        """Wait for the process's end, however it comes; its exit status (negative: the signal)."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after `stop_timeout`; returns when the process is gone. No error if it was."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone. No error if it was."""
        await self._end(signal.SIGKILL)

    async def _end(self, first: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._signal(first)
        try:
            async with asyncio.timeout(self.stop_timeout):
                await process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()
        await self._drained()

    def _signal(self, number: signal.Signals) -> None:
        # The server leads a process group of its own: helpers that it started go with it.
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _drained(self) -> None:
        # Something that outlives the server may still hold the pipe's other end: what is in it is read, no more.
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=0.2)
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
