"""Every way to say who connects: right, wrong, not usable, and changed while a connection stands."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
import nkeys
import pytest
import trustme
from nats.aio.client import Client as Nats
from nats.aio.subscription import Subscription

from provider.bus.connection import connect
from provider.client import BusUnreachable, PreviewClient
from provider.errors import Permanent
from provider.settings import Settings

from .conftest import NatsServer

Start = Callable[..., NatsServer]
SECONDS = 5.0
"""Within which a refusal has to be told."""


@dataclass
class Way:
    """One way to connect: what makes the server's configuration and the files, and the settings.

    Both take a version: `old`, then `new` after a rotation, or `wrong`.
    """

    conf: Callable[[str], str]
    write: Callable[[str], None]
    settings: dict[str, Any]

    def made(self, url: str) -> Settings:
        """The settings of a provider."""
        return Settings.model_validate({"nats_url": url, **self.settings})


def key(kind: int) -> tuple[str, Any]:
    """A new key pair: its seed, and itself."""
    seed = nkeys.encode_seed(os.urandom(32), kind).decode()
    return seed, nkeys.from_seed(bytearray(seed.encode()))


def token(subject: str, issuer: Any, nats: dict[str, Any]) -> str:
    """A JWT as NATS has it, signed by the issuer."""
    claims = {"jti": subject, "iat": int(time.time()), "iss": issuer.public_key.decode(), "sub": subject, "nats": nats}
    body = ".".join(_unpadded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
    return f"{body}.{_unpadded(issuer.sign(body.encode()))}"


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def password(folder: Path) -> Way:
    file = folder / "password"
    return Way(
        lambda version: f'authorization {{ user: me, password: "{version}-pass" }}',
        lambda version: put(file, f"{version}-pass\n"),
        {"nats_user": "me", "nats_password_file": file},
    )


def plain_token(folder: Path) -> Way:
    file = folder / "token"
    return Way(
        lambda version: f'authorization {{ token: "{version}-token" }}',
        lambda version: put(file, f"{version}-token"),
        {"nats_token_file": file},
    )


def nkey(folder: Path) -> Way:
    file, pairs = folder / "seed", {version: key(nkeys.PREFIX_BYTE_USER) for version in ("old", "new", "wrong")}
    return Way(
        lambda version: f"authorization {{ users: [ {{ nkey: {pairs[version][1].public_key.decode()} }} ] }}",
        lambda version: put(file, pairs[version][0]),
        {"nats_nkey_file": file},
    )


def credentials(folder: Path) -> Way:
    """Another account after the rotation, so that the first user is nobody any more."""
    file, (_, operator) = folder / "user.creds", key(nkeys.PREFIX_BYTE_OPERATOR)
    accounts = {version: key(nkeys.PREFIX_BYTE_ACCOUNT)[1] for version in ("old", "new", "wrong")}
    no_limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)

    def conf(version: str) -> str:
        name = accounts[version].public_key.decode()
        own = token(operator.public_key.decode(), operator, {"type": "operator", "version": 2})
        about = {"type": "account", "version": 2, "limits": {**no_limits, "wildcards": True}}
        account = token(name, operator, about)
        return f"operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {name}: {account} }}"

    def write(version: str) -> None:
        seed, user = key(nkeys.PREFIX_BYTE_USER)
        about = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
        jwt = token(user.public_key.decode(), accounts[version], about)
        first = f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------"
        second = f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
        put(file, f"{first}\n\nSome words.\n\n{second}\n")

    return Way(conf, write, {"nats_credentials_file": file})


def mutual_tls(folder: Path) -> Way:
    """The authority, the server's certificate and the client's are new after the rotation."""
    authorities = {version: trustme.CA() for version in ("old", "new", "wrong")}
    ca, cert, private = folder / "ca.pem", folder / "client.pem", folder / "client.key"
    own = folder / "server.pem", folder / "server.key", folder / "clients-ca.pem"

    def conf(version: str) -> str:
        made = authorities[version].issue_cert("127.0.0.1", "localhost")
        put(own[0], b"".join(one.bytes() for one in made.cert_chain_pems).decode())
        put(own[1], made.private_key_pem.bytes().decode())
        put(own[2], authorities[version].cert_pem.bytes().decode())
        files = f'cert_file: "{own[0]}", key_file: "{own[1]}", ca_file: "{own[2]}"'
        return f"tls {{ {files}, verify: true, timeout: 3 }}"

    def write(version: str) -> None:
        made = authorities[version].issue_cert("preview-provider")
        put(cert, b"".join(one.bytes() for one in made.cert_chain_pems).decode())
        put(private, made.private_key_pem.bytes().decode())
        put(ca, authorities["old" if version == "wrong" else version].cert_pem.bytes().decode())

    return Way(conf, write, {"nats_ca_file": ca, "nats_client_cert": cert, "nats_client_key": private})


def put(file: Path, text: str) -> None:
    """Replace a file at once, as a mounted secret is."""
    beside = file.with_suffix(".next")
    beside.write_text(text)
    beside.replace(file)


@pytest.fixture(params=[password, plain_token, nkey, credentials, mutual_tls], ids=lambda one: one.__name__)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    made: Way = request.param(tmp_path)
    return made


@pytest.fixture
def serve(way: Way, tmp_path: Path, start_server: Start) -> Callable[[str], NatsServer]:
    """Starts the server in its old version; or changes it, and starts it anew."""
    running: list[NatsServer] = []

    def serve(version: str) -> NatsServer:
        (tmp_path / "server.conf").write_text(way.conf(version))
        if running:
            running[0].restart()
        else:
            running.append(start_server("-c", str(tmp_path / "server.conf"), jetstream=False))
        return running[0]

    return serve


async def test_a_rotation_needs_no_restart(way: Way, serve: Callable[[str], NatsServer]) -> None:
    way.write("old")
    kept = secrets_in(way)
    url = serve("old").url
    nc = await connect(way.made(url), lambda: None)
    serve("new")
    await until(lambda: nc.last_error is not None and not nc.is_connected)
    way.write("new")
    await until(lambda: nc.is_connected)
    assert nc.secrets == kept | secrets_in(way), "what opens the bus, and did, is known to be secret"
    async with PreviewClient.connect(way.made(url)) as client:
        inbox = await client.nats.subscribe("greetings")
        await client.nats.flush()
        assert await greeted(nc, inbox)
    await nc.close()


async def greeted(nc: Nats, inbox: Subscription) -> bool:
    """Said again and again: what goes to a server that is about to refuse the old credentials is lost."""
    async with asyncio.timeout(SECONDS):
        while True:
            await nc.publish("greetings", b"hello")
            with suppress(nats.errors.TimeoutError):
                return (await inbox.next_msg(timeout=0.5)).data == b"hello"


async def test_what_is_wrong_is_told_within_seconds(way: Way, serve: Callable[[str], NatsServer]) -> None:
    way.write("wrong")
    found = way.made(serve("old").url)
    error = await refused(found)
    named = next(name for name in ("nats_client_cert", *way.settings) if name in way.settings and name != "nats_user")
    assert error.reason == "BusCredentialsRefused"
    assert named.upper() in (error.hint or "")
    with pytest.raises(BusUnreachable):
        async with PreviewClient.connect(found, connect_seconds=1):
            pass


async def test_what_cannot_be_used_names_the_variable(way: Way) -> None:
    for name, file in way.settings.items():
        if name == "nats_user":
            continue
        way.write("old")
        file.unlink()
        assert name.upper() in (await refused(way.made("nats://127.0.0.1:9"))).message
        file.write_text("")
        assert name.upper() in (await refused(way.made("nats://127.0.0.1:9"))).message
        file.write_text("hunter2")
        if name not in ("nats_password_file", "nats_token_file"):  # any text may be one of those
            error = await refused(way.made("nats://127.0.0.1:9"))
            assert name.upper() in error.message
            assert "hunter2" not in f"{error} {error.evidence} {error.hint}"


async def test_a_file_that_cannot_be_read_in_a_rotation_keeps_what_it_held(tmp_path: Path, start_server: Start) -> None:
    how = password(tmp_path)
    (tmp_path / "server.conf").write_text(how.conf("old"))
    how.write("old")
    server = start_server("-c", str(tmp_path / "server.conf"), jetstream=False)
    nc = await connect(how.made(server.url), lambda: None)
    how.settings["nats_password_file"].unlink()
    server.restart()
    await until(lambda: nc.stats["reconnects"] == 1 and nc.is_connected)
    await nc.close()


async def test_a_server_that_wants_a_certificate_says_so(tmp_path: Path, start_server: Start) -> None:
    how = mutual_tls(tmp_path)
    (tmp_path / "server.conf").write_text(how.conf("old"))
    how.write("old")
    server = start_server("-c", str(tmp_path / "server.conf"), jetstream=False)
    error = await refused(Settings(nats_url=server.url, nats_ca_file=how.settings["nats_ca_file"]))
    assert error.reason == "BusCredentialsRefused"
    assert "NATS_CLIENT_CERT" in (error.hint or "")


async def test_whoever_offers_no_tls_is_told_no_password(tmp_path: Path, start_server: Start) -> None:
    how = mutual_tls(tmp_path)
    how.write("old")
    server = start_server("--user", "me", "--pass", "hunter2", jetstream=False)
    url = server.url.replace("//", "//me:hunter2@")
    error = await refused(Settings(nats_url=url, nats_ca_file=how.settings["nats_ca_file"]))
    assert error.reason == "BusNotEncrypted"
    with pytest.raises(BusUnreachable, match="offers no TLS"):
        async with PreviewClient.connect(how.made(url), connect_seconds=1):
            pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nats_token_file": "a", "nats_nkey_file": "b"}, "NATS_NKEY_FILE and NATS_TOKEN_FILE are set: choose one"),
        ({"nats_user": "me"}, "NATS_USER and NATS_PASSWORD_FILE go together"),
        ({"nats_password_file": "a"}, "NATS_USER and NATS_PASSWORD_FILE go together"),
        ({"nats_inbox_prefix": "_INBOX.>"}, "String should match pattern"),
    ],
)
def test_settings_that_say_two_things_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.model_validate(settings)


def secrets_in(way: Way) -> frozenset[str]:
    """What nobody else may know of the files of that way."""
    file = next(reversed(way.settings.values()))
    inside = re.findall(r"-{5}BEGIN [^-]+-{5}\n([^ ]+)\n-{5,6}END", file.read_text()) or [file.read_text()]
    return frozenset("".join(one.split()) for one in inside)


async def refused(found: Settings) -> Permanent:
    """The error of a connection that is not made, in time."""
    with pytest.raises(Permanent) as caught:
        async with asyncio.timeout(SECONDS):
            await connect(found, lambda: None)
    return caught.value


async def until(what: Callable[[], bool]) -> None:
    """Wait until that is so; nobody tells when it is."""
    async with asyncio.timeout(2 * SECONDS):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
