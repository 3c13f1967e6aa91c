"""The bare engine calls that the provider is measured against: what a person would type for the same sample.

`podman build`, `podman push`, `podman run`, and asking until the first 200; on the same engine, storage and
registry as the provider's, with the flags that this machine needs and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from provider.demo.engine import engine_environment
from provider.demo.processes import clean_environment, free_port
from provider.demo.stack import Stack

POLL_SECONDS = 0.002
ANSWER_SECONDS = 30.0


class CallFailed(Exception):
    """A bare call ended badly; the message is its output."""


@dataclass(frozen=True, slots=True)
class BareRun:
    """Seconds of one bare pipeline.

    `app` is from the container's start, by the engine's clock, to the first 200; `answer` what one more takes.
    """

    total: float
    build: float
    push: float
    run: float
    app: float
    answer: float


class Bare:
    """Runs bare pipelines on the stack's engine."""

    def __init__(self, stack: Stack, base_image: str) -> None:
        self._stack = stack
        self._base = base_image
        # No CONTAINER_HOST: it would make podman a client of the service.
        self._env = {**clean_environment(stack.folder), **engine_environment(stack.folder)}
        self._count = itertools.count()

    async def run(self, files: Mapping[str, str]) -> BareRun:
        """Build, push, run and ask until it answers; what it made is removed after the clock has stopped."""
        name = f"bare-{next(self._count)}"
        folder = self._stack.folder / "bare" / name
        await asyncio.to_thread(_write, folder, files)
        image = f"{self._stack.registry.address}/bare/app:{name}"
        port = free_port()
        try:
            marks = [time.time()]
            await self._podman(*self._build(image), str(folder))
            marks.append(time.time())
            await self._podman("push", "--quiet", "--tls-verify=false", image)
            marks.append(time.time())
            await self._podman("run", "--detach", f"--name={name}", f"--publish=127.0.0.1:{port}:8080", image)
            marks.append(time.time())
            first = await first_200(port)
            answer = await first_200(port) - first
            started = await self.started(name)
        finally:
            await self._podman("rm", "--force", "--time=0", "--ignore", name)
        build, push, run = (after - before for before, after in itertools.pairwise(marks))
        return BareRun(first - marks[0], build, push, run, app=max(0.0, first - started[1]), answer=answer)

    def _build(self, image: str) -> tuple[str, ...]:
        limits = self._stack.limits
        ulimits = [f"--ulimit={limit}" for limit in limits.ulimits]
        return (
            "--runtime",
            limits.runtime,
            "build",
            "--quiet",
            *ulimits,
            f"--build-arg=BASE={self._base}",
            "-t",
            image,
        )

    async def started(self, container: str) -> tuple[float, float]:
        """When the engine began to create the container, and when it had started it; seconds since 1970."""
        shown: list[dict[str, Any]] = json.loads(await self._podman("container", "inspect", container))
        return _moment(shown[0]["Created"]), _moment(shown[0]["State"]["StartedAt"])

    async def _podman(self, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            "podman",
            *arguments,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        if process.returncode:
            raise CallFailed(f"podman {' '.join(arguments)}: {errors.decode(errors='replace')[-2000:]}")
        return out


async def first_200(port: int) -> float:
    """Ask for the app's page until it answers 200; when it did, in seconds since 1970."""
    async with asyncio.timeout(ANSWER_SECONDS):
        while not await _is_200(port):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(POLL_SECONDS)
    return time.time()


async def _is_200(port: int) -> bool:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.0\r\nHost: bare\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
    return False


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")


def _moment(text: str) -> float:
    """Podman's RFC 3339 times have nine decimals, Python's six."""
    head, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :]
    return datetime.fromisoformat(f"{head}.{digits[:6]:0<6}{zone.replace('Z', '+00:00')}").timestamp()
