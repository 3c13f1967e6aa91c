"""A provider that answers what it is told to, and how it is asked: by the client, and by the command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import nats
import pytest
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from provider.client import PreviewClient
from tests.bus.conftest import NatsServer

PREFIX = "x1.provider.preview"
REQUESTS = (
    "provision", "teardown", "validate", "status", "list", "cancel", "touch", "claim", "release", "attach", "wait",
)  # fmt: skip
SUCCESS = {
    "ok": True,
    "url": "https://shop.preview.test",
    "slug": "shop",
    "image": "r:5000/previews/shop:1a2b3c4d5e6f",
    "job_name": "preview-build-shop-1a2b3c4d",
    "digest": "sha256:abc",
    "built": True,
    "timings": {"resolve": 0.5, "build": 12.25},
    "checks": [{"name": "root", "ok": True}],
    "warnings": ["spec.foo: unknown field"],
    "added_later": {"x": 1},
}
FAILURE = {
    "ok": False,
    "code": "kaniko_build_failed",
    "message": "The build failed at step 3.",
    "slug": "shop",
    "deploy_id": "d-1",
    "phase": "build",
    "reason": "RunFailed",
    "hint": "Fix the RUN step.",
    "retryable": False,
    "whose": "user",
    "evidence": ["exit status 1"],
    "log_tail": ["npm ERR! \x1b[31mred\x1b[0m", "[bold]markup[/bold]\x07"],
    "still_serving": "0123456789abcdef0123456789abcdef01234567",
    "warnings": ["careful"],
}


class Scripted:
    """A provider whose n-th answer is the n-th of `answers`; None: says nothing. The last one is kept."""

    def __init__(self, connection: Nats, answers: list[dict[str, Any] | bytes | None]) -> None:
        self.nats = connection
        self.requests: list[dict[str, Any]] = []
        self.replies: list[str] = []
        self.subjects: list[str] = []
        self.arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers = answers

    async def handle(self, message: Msg) -> None:
        body = json.loads(message.data)
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(body)
        self.replies.append(message.reply)
        self.subjects.append(message.subject)
        if answer is not None:
            await message.respond(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        self.arrived.put_nowait(body)

    async def emit(self, deploy_id: str, kind: str, phase: str | None = None, **data: object) -> None:
        event: dict[str, Any] = {"event_id": f"e-{kind}-{phase}", "slug": "shop", "deploy_id": deploy_id}
        event |= {"type": kind, "phase": phase, "at": datetime.now(UTC).isoformat(), "data": data}
        await self.nats.publish(f"{PREFIX}.events.shop", json.dumps(event).encode())


async def quiet(_: Exception) -> None:
    """Connections break here on purpose."""


@asynccontextmanager
async def provider(server: NatsServer, *answers: dict[str, Any] | bytes | None) -> AsyncIterator[Scripted]:
    connection = await nats.connect(server.url, error_cb=quiet, reconnect_time_wait=0, max_reconnect_attempts=-1)
    scripted = Scripted(connection, list(answers))
    for name in REQUESTS:
        await connection.subscribe(f"{PREFIX}.{name}", cb=scripted.handle)
    await connection.flush()
    yield scripted
    await connection.close()


async def deliver(connection: Nats, inbox: str, answer: dict[str, Any]) -> None:
    """Answer as the contract's reply promise has it: published as a request, so that an absent inbox shows."""
    try:
        await connection.request(inbox, json.dumps(answer).encode(), timeout=0.5)
    except NoRespondersError:
        pytest.fail("the inbox is gone")
    except nats.errors.TimeoutError:
        return


def client(server: NatsServer, **options: Any) -> Any:
    return PreviewClient.connect(nats_url=server.url, subject_prefix=PREFIX, **options)


async def start(server: NatsServer, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
    env = {"PATH": os.environ["PATH"], "NATS_URL": server.url, **environ}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "provider", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )


async def cli(server: NatsServer, *arguments: str, **environ: str) -> tuple[int, str, str]:
    process = await start(server, *arguments, **environ)
    out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()
