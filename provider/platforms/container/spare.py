"""A builder that waits: Python is up and its network made before the next build is asked for.

Half of what a build costs beside Podman's own work is done ahead that way. One is made a moment after a deploy,
never at the provider's start: who deploys nothing keeps nothing. It ends by itself when it is not wanted within
ten minutes, or when the provider ends, however that does; the build that it was given outlives the provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from provider.platforms.container import builder, machine

RENEW_SECONDS = 0.1
CLOSE_SECONDS = 2.0
TAKE_SECONDS = 2.0


START = """
import sys
sys.path.append(sys.argv[1].removesuffix("/provider/platforms/container/builder.py"))
from provider.platforms.container import builder
builder.main(sys.argv[2:])
"""
"""Imports the builder instead of running its file: a program that is run is compiled anew at each start."""


async def launch(*arguments: str, environment: Mapping[str, str], stdin: int, output: int) -> int:
    """Start a builder; it detaches, so the process that is waited for ends at once. Returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", START, builder.__file__, *arguments,
        stdin=stdin, stdout=output, stderr=output, start_new_session=True, env=environment,
    )  # fmt: skip
    return await process.wait()


class Taken:
    """A builder that is told its folder, where its plan is: it makes ready, and waits for the rest."""

    def __init__(self, waiting: socket.socket, folder: Path) -> None:
        self._waiting = waiting
        self._ready = asyncio.create_task(self._told(str(folder).encode()))

    async def begin(self, bases: Sequence[str]) -> bool:
        """Have it build what is in its folder by now, with these bases still to be had; False when it is gone."""
        begun = await self._ready and await self._sent(json.dumps(list(bases)).encode())
        self._waiting.close()
        return begun

    async def let_go(self) -> None:
        """There is nothing to build after all: it ends."""
        self._ready.cancel()
        await asyncio.gather(self._ready, return_exceptions=True)
        self._waiting.close()

    async def _told(self, folder: bytes) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TAKE_SECONDS):
                if await self._sent(folder):
                    return bool(await asyncio.get_running_loop().sock_recv(self._waiting, 16))
        return False

    async def _sent(self, message: bytes) -> bool:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._waiting, message)
            return True
        return False


class Spare:
    """At most one builder that waits.

    Args:
        environment: what every builder gets.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._waiting: socket.socket | None = None
        self._renewal: asyncio.Task[None] | None = None

    def take(self, folder: Path) -> Taken | None:
        """The builder that waits, for what is to be built in `folder`; None when there is none."""
        if self._waiting is None:
            return None
        waiting, self._waiting = self._waiting, None
        return Taken(waiting, folder)

    def renew(self) -> None:
        """Have a builder wait again, after a moment in which the answer to the deploy that ends now can leave."""
        if self._renewal is not None:
            self._renewal.cancel()
        self._renewal = asyncio.create_task(self._renew())

    async def close(self) -> None:
        """Let the waiting builder go, and see it end."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        with waiting, contextlib.suppress(OSError, TimeoutError):
            waiting.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.get_running_loop().sock_recv(waiting, 1)

    async def _renew(self) -> None:
        await asyncio.sleep(RENEW_SECONDS)
        if self._waiting is not None and not _ended(self._waiting):
            return
        if self._waiting is not None:
            self._waiting.close()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._waiting = ours  # a build that takes it before it waits there is heard all the same
        with theirs:
            arguments = ("--spare", machine.netavark())
            output = asyncio.subprocess.DEVNULL
            await launch(*arguments, environment=self._environment, stdin=theirs.fileno(), output=output)


def _ended(waiting: socket.socket) -> bool:
    """Whether the other end is gone: it says nothing before it is asked."""
    with contextlib.suppress(BlockingIOError):
        return not waiting.recv(1)
    return False
