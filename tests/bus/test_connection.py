"""The connection: clear errors within seconds at first, reconnection for ever afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from provider.bus.connection import connect as connect_bus
from provider.bus.connection import has_jetstream, settled
from provider.demo.processes import free_port
from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.settings import Settings

from .conftest import NatsServer


def settings(url: str, **more: object) -> Settings:
    return Settings.model_validate({"nats_url": url, **more})


async def refused(found: Settings, **named: float) -> PreviewError:
    closed: list[bool] = []
    with pytest.raises(PreviewError) as caught:
        async with asyncio.timeout(8):
            await connect_bus(found, lambda: closed.append(True), **named)
    assert not closed
    assert "hunter2" not in f"{caught.value} {caught.value.evidence}"
    assert caught.value.code is Code.PLATFORM_UNREACHABLE
    return caught.value


async def test_connects_and_tells_when_it_is_closed(server: NatsServer) -> None:
    closed: list[bool] = []

    def on_closed() -> None:
        closed.append(True)
        raise RuntimeError("callbacks never raise")

    nc = await connect_bus(settings(server.url), on_closed)
    assert await has_jetstream(nc)
    await nc.close()
    assert closed == [True]


async def test_wrong_credentials_are_a_clear_error(start_server: Callable[..., NatsServer]) -> None:
    server = start_server("--user", "me", "--pass", "right")
    url = server.url.replace("//", "//me:hunter2@")
    error = await refused(settings(url))
    assert isinstance(error, Permanent)
    assert error.reason == "BusCredentialsRefused"
    nc = await connect_bus(settings(server.url.replace("//", "//me:right@")), lambda: None)
    await nc.close()


async def test_a_token_in_the_url(start_server: Callable[..., NatsServer]) -> None:
    server = start_server("--auth", "t0ken")
    assert (await refused(settings(server.url.replace("//", "//hunter2@")))).reason == "BusCredentialsRefused"
    nc = await connect_bus(settings(server.url.replace("//", "//t0ken@")), lambda: None)
    await nc.close()


async def test_no_server_is_a_temporary_error(prefix: str) -> None:
    error = await refused(settings(f"nats://me:hunter2@127.0.0.1:{free_port()}"), timeout=0.5)
    assert isinstance(error, Temporary)
    assert error.reason == "BusUnreachable"


async def test_an_unreadable_certificate_is_named() -> None:
    error = await refused(settings("nats://127.0.0.1:1", nats_ca_file="/does/not/exist"))
    assert error.reason == "BusCertificates"


async def test_a_bus_without_jetstream(start_server: Callable[..., NatsServer]) -> None:
    nc = await connect_bus(settings(start_server(jetstream=False).url), lambda: None)
    assert not await has_jetstream(nc)
    await nc.close()


async def test_reconnects_after_a_restart(start_server: Callable[..., NatsServer]) -> None:
    server = start_server(jetstream=False)
    nc = await connect_bus(settings(server.url), lambda: None)
    back = asyncio.Event()
    said = nc._reconnected_cb

    async def note() -> None:
        assert said
        await said()
        back.set()

    nc._reconnected_cb = note
    server.restart()
    async with asyncio.timeout(10):
        await back.wait()
    await settled(nc)
    await nc.close()
