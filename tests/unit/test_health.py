"""`/readyz` says what is not ready, also when the platform says nothing at all."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from provider.errors import Code, Permanent
from provider.health import Health
from provider.platforms.base import PartStatus

WELL = PartStatus("registry", True, "answers")


async def hangs() -> list[PartStatus]:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def fails() -> list[PartStatus]:
    raise Permanent(Code.PLATFORM_UNREACHABLE, "The engine is away.", hint="Start it.")


async def is_well() -> list[PartStatus]:
    return [WELL]


@pytest.mark.parametrize(
    ("own", "platform", "status", "lacks"),
    [
        (True, is_well, 200, {}),
        (False, is_well, 503, {"bus": "no connection"}),
        (True, hangs, 503, {"platform": "did not say how it is within 0.05 s"}),
        (True, fails, 503, {"platform": "platform_unreachable: The engine is away."}),
    ],
)
async def test_readyz(own: bool, platform: object, status: int, lacks: dict[str, str]) -> None:
    bus = PartStatus("bus", own, "connected" if own else "no connection")
    app = web.Application()
    app.add_routes(Health(lambda: [bus], platform, patience=0.05).routes())  # type: ignore[arg-type]
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/readyz")
        body = json.loads(await answer.text())
        alive = await client.get("/healthz")
    assert (answer.status, body["ready"], alive.status) == (status, status == 200, 200)
    assert {part["name"]: part["detail"] for part in body["parts"] if not part["ok"]} == lacks
    assert body["parts"][0]["name"] == "bus"
