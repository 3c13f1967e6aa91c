"""The bus by its websocket: TLS, certificates and passwords mean the same there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from provider.bus.connection import connect, has_jetstream
from provider.client import BusUnreachable, PreviewClient
from provider.demo.processes import free_port
from provider.errors import Permanent, Temporary
from provider.settings import Settings

from .conftest import NatsServer

# What nats-py 2.16.0 does with aiohttp.
pytestmark = pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")

Start = Callable[..., NatsServer]


class Socket:
    """A server whose websocket has TLS (or not), wants a client's certificate (or not), and a password."""

    def __init__(self, folder: Path, start: Start, *, tls: bool = True, verify: bool = False) -> None:
        self.folder, self.port = folder, free_port()
        self.ca = trustme.CA()
        own = self.ca.issue_cert("127.0.0.1", "localhost")
        for name, text in (
            ("server.pem", b"".join(one.bytes() for one in own.cert_chain_pems)),
            ("server.key", own.private_key_pem.bytes()),
            ("ca.pem", self.ca.cert_pem.bytes()),
        ):
            (folder / name).write_bytes(text)  # fmt: skip
        files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.key"'
        trusted = f', ca_file: "{folder}/ca.pem", verify: true' if verify else ""
        said = f"tls: {{ {files}{trusted} }}" if tls else "no_tls: true"
        (folder / "server.conf").write_text(
            f'authorization {{ user: me, password: "right" }}\n'
            f'websocket {{ host: "127.0.0.1", port: {self.port}, {said} }}\n'
        )
        self.server = start("-c", str(folder / "server.conf"))

    def settings(self, scheme: str = "wss", user: str = "me:right@", **more: Any) -> Settings:
        """Of a process that trusts the authority, if not told else."""
        more = {"nats_ca_file": self.folder / "ca.pem", **more}
        return Settings.model_validate({"nats_url": f"{scheme}://{user}127.0.0.1:{self.port}", **more})


async def test_a_websocket_with_tls_is_a_bus_like_any_other(tmp_path: Path, start_server: Start) -> None:
    socket = Socket(tmp_path, start_server)
    nc = await connect(socket.settings(), lambda: None)
    try:
        assert await has_jetstream(nc)
        async with PreviewClient.connect(socket.settings()) as client:
            inbox = await client.nats.subscribe("greetings")
            await client.nats.flush()
            await nc.publish("greetings", b"hello" * 50_000)
            assert len((await inbox.next_msg(timeout=5)).data) == 250_000
        socket.server.restart()
        async with asyncio.timeout(10):
            while not (nc.stats["reconnects"] and nc.is_connected):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await has_jetstream(nc)
    finally:
        await nc.close()


async def test_a_client_certificate(tmp_path: Path, start_server: Start) -> None:
    socket = Socket(tmp_path, start_server, verify=True)
    own = socket.ca.issue_cert("preview-provider")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    nc = await connect(socket.settings(nats_client_cert=tmp_path / "client.pem"), lambda: None)
    await nc.close()
    error = await refused(socket.settings())
    assert error.reason == "BusCredentialsRefused"
    assert "NATS_CLIENT_CERT" in (error.hint or "")


async def test_what_is_wrong_is_told(tmp_path: Path, start_server: Start) -> None:
    socket, other = Socket(tmp_path, start_server), tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert (await refused(socket.settings(user="me:hunter2@"))).reason == "BusCredentialsRefused"
    for ca in (other, None):
        assert (await refused(socket.settings(nats_ca_file=ca))).reason == "BusCertificates"
    with pytest.raises(BusUnreachable):
        async with PreviewClient.connect(socket.settings(nats_ca_file=other), connect_seconds=2):
            pass
    socket.server.stop()
    with pytest.raises(Temporary):
        await connect(socket.settings(), lambda: None, timeout=2)


async def test_one_without_tls_is_told_nothing_where_tls_is_wanted(tmp_path: Path, start_server: Start) -> None:
    socket = Socket(tmp_path, start_server, tls=False)
    heard = await _all_that_is_told(socket)
    assert heard == b""
    nc = await connect(socket.settings("ws", nats_ca_file=None), lambda: None)
    await nc.close()


async def _all_that_is_told(socket: Socket) -> bytes:
    """What a connection that wants TLS says to whoever listens at that URL of ws://."""
    heard = b""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        socket.port, own = server.sockets[0].getsockname()[1], socket.port
        assert (await refused(socket.settings("ws"))).reason == "BusNotEncrypted"
    socket.port = own
    return heard


async def refused(found: Settings) -> Permanent:
    """The error of a connection that is not made, in time."""
    with pytest.raises(Permanent) as caught:
        async with asyncio.timeout(5):
            await connect(found, lambda: None)
    assert "hunter2" not in f"{caught.value} {caught.value.evidence} {caught.value.hint}"
    return caught.value
