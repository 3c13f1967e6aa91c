"""Logs on the engine: a build that says much is told and kept whole, and no secret is in anything that leaves."""

from __future__ import annotations

import json
import os

import pytest

from provider.client import Event, new_deploy_id
from provider.demo.world import World
from provider.store import ObjectShelf, key_of
from tests.e2e.apps import app_files
from tests.e2e.helpers import deployed, eventually

pytestmark = pytest.mark.timeout(240)

LINES = 100_000
SECRET = f"{os.urandom(8).hex()}/{os.urandom(8).hex()}"


async def test_a_hundred_thousand_lines_are_kept_whole_and_in_order(world: World) -> None:
    printing = f"COPY said /said\nRUN seq 1 {LINES}; cat /said"
    said = f"token {SECRET[:20]}\n{SECRET[20:]}\n{SECRET.replace('/', '%2F')}\n"
    files = app_files("manylines", world.base_image, dockerfile_extra=printing) | {"said": said}
    heard: list[Event] = []
    deploy_id = new_deploy_id()
    await deployed(
        world,
        "manylines",
        files=files,
        secret_values={"TOKEN": SECRET},
        deploy_id=deploy_id,
        on_event=heard.append,
    )
    record = await world.client.status(deploy_id=deploy_id)
    await world.client.teardown("manylines")
    shelf = await ObjectShelf.open(world.client.nats, world.client.subjects.logs_bucket, most=1 << 20, age=60.0)

    async def found() -> list[str] | None:
        log = await shelf.get(key_of("manylines", str(record.reply["build_inputs"])))
        return [line for piece in log.pieces() for line in piece] if log is not None else None

    lines = await eventually(found, what="the build's log is kept")
    numbers = [line for line in lines if line.isdigit()]
    assert numbers == [str(number) for number in range(1, LINES + 1)]
    assert "token ***" in lines
    text = "\n".join(lines) + json.dumps([event.data for event in heard])
    assert not [form for form in (SECRET, SECRET[:20], SECRET[20:], SECRET.replace("/", "%2F")) if form in text]
    told = [line for event in heard for line in event.data.get("lines", ()) if line.isdigit()]
    assert told == numbers, "a follower of the events got all of them, too"
