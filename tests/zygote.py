"""Providers for the tests without the imports, which are two thirds of a provider's start.

One process for each of pytest's workers imports what `preview serve` needs, and waits: it has no loop, no thread and
no connection. For each provider it forks. The child has a session, an environment, a folder and an output of its own,
calls the command line's `main`, and takes signals as any process does. `Forked` is a `Server` that is such a child.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from provider.cli.startup import quickly
from provider.demo.processes import LINE_LIMIT, Server, clean_environment

ROOT = Path(__file__).resolve().parents[1]
SERVE = ["-m", "provider", "serve"]
MESSAGE = 1 << 16
PR_SET_PDEATHSIG = 1
MOST_FDS = 1 << 16


# ----------------------------------------------------------------------- in the tests


@dataclass
class Child:
    """One child, as a `Server` sees it."""

    pid: int
    stdout: asyncio.StreamReader | None
    ended: asyncio.Task[int]

    @property
    def returncode(self) -> int | None:
        """As there: negative for a signal."""
        return self.ended.result() if self.ended.done() else None

    async def wait(self) -> int:
        """The same, when it has ended."""
        return await asyncio.shield(self.ended)


class Forked(Server):
    """A provider that is forked instead of started."""

    async def _spawn(self) -> Child:
        assert list(self.argv[1:]) == SERVE
        order = {"environment": dict(self.env), "folder": str(self.folder)}
        loop, (told, theirs), (read, write) = asyncio.get_running_loop(), _pair(), os.pipe()
        told.setblocking(False)
        with theirs, os.fdopen(write, "wb"):
            socket.send_fds(_zygote(), [json.dumps(order).encode()], [write, theirs.fileno()])
        output = asyncio.StreamReader(limit=LINE_LIMIT)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), os.fdopen(read, "rb"))
        pid = int(await loop.sock_recv(told, MESSAGE))
        return Child(pid, output, asyncio.create_task(_status(told), name=f"{self.name}'s end"))


async def _status(told: socket.socket) -> int:
    with told:  # nothing is told: the zygote is dead, and its children with it
        return int(await asyncio.get_running_loop().sock_recv(told, MESSAGE) or -signal.SIGKILL)


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(type=socket.SOCK_SEQPACKET)


@cache
def _zygote() -> socket.socket:
    """The connection to this worker's zygote, which ends with us."""
    ours, theirs = _pair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
            env={**clean_environment(ROOT), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # the last one first
    return ours


# ---------------------------------------------------------------------- in the zygote


def main() -> None:
    """Fork a provider for each order, and tell of its end; in the child: be that provider."""
    with quickly():
        import provider.platforms.container.platform
        import provider.platforms.kubernetes.platform
        import provider.process  # noqa: F401
    from provider.cli import main as preview

    assert threading.active_count() == 1
    order = _born(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.argv = ["preview", "serve"]
        preview()


def _born(orders: socket.socket) -> Any:
    """The order, in each child; None in the zygote, when nobody is there any more who could order."""
    children: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([orders.fileno(), *children], [], [])[0]:
            if ready in children:
                _tell_end(ready, *children.pop(ready))
                continue
            message, fds, *_ = socket.recv_fds(orders, MESSAGE, 2)
            if not message:
                return None
            (output, told), pid = fds, os.fork()
            if pid == 0:
                orders.detach()
                _settle(output)
                return json.loads(message)
            os.write(told, str(pid).encode())
            os.close(output)
            children[os.pidfd_open(pid)] = pid, told


def _tell_end(pidfd: int, pid: int, told: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        os.write(told, str(status).encode())
    os.close(told)
    os.close(pidfd)


def _settle(output: int) -> None:
    """A session and an output of its own, nothing of the zygote's or a sibling's; it ends with the zygote."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)  # the old ones believe in /dev/null
    os.closerange(3, MOST_FDS)


if __name__ == "__main__":
    main()
