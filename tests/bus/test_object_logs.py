"""Logs in an object store: what one provider wrote another reads; full and old are the server's to see to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from nats.aio.client import Client

from provider.errors import Temporary
from provider.store import DiskShelf, ObjectShelf, Spool, open_shelf
from tests.bus.conftest import NatsServer
from tests.e2e.helpers import eventually


def log_of(lines: list[str]) -> IO[bytes]:
    spool = Spool(16 << 20)
    spool.write(lines)
    return spool.kept("d", complete=True)


async def read(shelf: ObjectShelf, key: str) -> list[str] | None:
    found = await shelf.get(key)
    if found is None:
        return None
    try:
        return [line for piece in found.pieces() for line in piece]
    finally:
        found.close()


def bucket(prefix: str) -> str:
    return f"{prefix.replace('.', '_')}_logs"


async def put(shelf: ObjectShelf, key: str, lines: list[str]) -> None:
    with log_of(lines) as file:
        await shelf.put(key, file)


async def test_any_provider_reads_what_another_one_wrote(
    server: NatsServer, nc: Client, connect: Callable[..., object], prefix: str
) -> None:
    other: Client = await connect(server.url)  # type: ignore[misc]
    mine = await ObjectShelf.open(nc, bucket(prefix), most=8 << 20, age=60.0)
    theirs = await ObjectShelf.open(other, bucket(prefix), most=8 << 20, age=60.0)
    lines = [os.urandom(30).hex() for _ in range(20_000)]
    await put(mine, "key", lines)
    assert await read(theirs, "key") == lines
    await put(theirs, "key", ["newer"])
    assert await read(mine, "key") == ["newer"]
    assert await read(mine, "never") is None


async def test_a_full_bucket_loses_its_oldest(nc: Client, prefix: str) -> None:
    shelf = await ObjectShelf.open(nc, bucket(prefix), most=1 << 20, age=60.0)
    lines = [os.urandom(200_000).hex()]
    for number in range(12):
        await put(shelf, f"key{number}", lines)
    assert await read(shelf, "key11") == lines
    assert await read(shelf, "key0") is None


async def test_what_is_too_old_goes(nc: Client, prefix: str) -> None:
    shelf = await ObjectShelf.open(nc, bucket(prefix), most=1 << 20, age=1.0)
    await put(shelf, "key", ["some"])

    async def gone() -> bool:
        return await read(shelf, "key") is None

    await eventually(gone, what="the log's age has passed")


async def test_a_bus_without_room_has_logs_on_disk(
    start_server: Callable[..., NatsServer], connect: Callable[..., object], tmp_path: Path
) -> None:
    config = tmp_path / "small.conf"
    config.write_text("jetstream { max_file_store: 1MB }\n")
    own = start_server("-c", str(config))
    nc: Client = await connect(own.url)  # type: ignore[misc]
    assert isinstance(await open_shelf(nc, "b", tmp_path, most=1 << 30, age=60.0), DiskShelf)


async def test_a_bus_that_is_away_is_said(
    start_server: Callable[..., NatsServer],
    connect: Callable[..., object],
) -> None:
    own = start_server()
    nc: Client = await connect(own.url)  # type: ignore[misc]
    shelf = await ObjectShelf.open(nc, "b", most=1 << 20, age=60.0, patience=1.0)
    await put(shelf, "key", ["some"])
    own.stop()
    with pytest.raises(Temporary):
        await shelf.get("key")
    own.start()
    assert await read(shelf, "key") == ["some"]
