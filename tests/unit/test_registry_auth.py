"""The registry's credentials, against the real registry: by Basic authorization, and by tokens of a token server."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from provider.demo.loopback import LoopbackServer
from provider.demo.processes import Server
from provider.demo.stack import registry_server
from provider.errors import PreviewError
from provider.http_client import http_client
from provider.platforms.registry import Registry
from provider.settings import Settings

USER, PASSWORD = "x1", "s3cret-of-the-test"
HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuud3F16mdEjBS0XjkfCARt.Mz1Ksy9lvq\n"
"""That password's bcrypt hash: the only kind that the registry reads."""
DIGEST = f"sha256:{'0' * 64}"


class TokenServer(LoopbackServer):
    """A token server: signs what the registry asked for, for whoever knows the password.

    Attributes:
        asked: the scopes of the requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _certificate(self._key)
        self.asked: list[str] = []

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.query.get("scope", ""))
        if request.headers.get("Authorization") != _basic(PASSWORD):
            return web.json_response({"details": "no"}, status=401)
        return web.json_response({"token": self._signed(request.query.get("scope", "")), "expires_in": 300})

    def _signed(self, scope: str) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access = [{"type": kind, "name": name, "actions": actions.split(",")}] if scope else []
        issued = int(time.time())
        claims = {"iss": "tests", "sub": USER, "aud": "registry", "exp": issued + 300, "nbf": issued - 10}
        claims |= {"iat": issued, "jti": "1", "access": access}
        text = f"{_url64(json.dumps(header).encode())}.{_url64(json.dumps(claims).encode())}"
        r, s = utils.decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Server]:
    """A registry that wants a password."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    server = _with_auth(tmp_path, {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}})
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest.fixture
async def by_token(tmp_path: Path, tokens: TokenServer) -> AsyncIterator[Server]:
    """A registry that wants that server's tokens."""
    bundle = tmp_path / "issuer.pem"
    bundle.write_bytes(tokens.certificate.public_bytes(serialization.Encoding.PEM))
    auth = {"realm": f"{tokens.url}/token", "service": "registry", "issuer": "tests", "rootcertbundle": str(bundle)}
    server = _with_auth(tmp_path, {"token": auth})
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def ask(tmp_path: Path, http: httpx.AsyncClient) -> Callable[..., Registry]:
    """A client of that registry with these credentials."""

    def made(server: Server, **entry: str) -> Registry:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"auths": {server.address: entry}}))
        settings = Settings(registry_address=server.address, registry_auth_file=file)
        return Registry(settings=settings, http=http)

    return made


@pytest.mark.parametrize("entry", [{"auth": "eDE6czNjcmV0LW9mLXRoZS10ZXN0"}, {"username": USER, "password": PASSWORD}])
async def test_a_password_is_given_when_asked(
    ask: Callable[..., Registry], guarded: Server, entry: dict[str, str]
) -> None:
    registry = ask(guarded, **entry)
    assert (await registry.part()).ok
    assert not await registry.has("shop", DIGEST)


async def test_a_wrong_password_is_told_as_such(ask: Callable[..., Registry], guarded: Server) -> None:
    registry = ask(guarded, username=USER, password="another")
    part = await registry.part()
    assert not part.ok
    assert "REGISTRY_AUTH_FILE" in part.hint
    with pytest.raises(PreviewError) as refused:
        await registry.has("shop", DIGEST)
    assert (refused.value.reason, refused.value.retryable) == ("CredentialsRefused", False)


async def test_credentials_change_without_a_restart(ask: Callable[..., Registry], guarded: Server) -> None:
    registry = ask(guarded, username=USER, password="another")
    assert not (await registry.part()).ok
    ask(guarded, username=USER, password=PASSWORD)  # the same file
    assert (await registry.part()).ok


async def test_a_token_is_fetched_once_for_what_it_is_good_for(
    ask: Callable[..., Registry], by_token: Server, tokens: TokenServer
) -> None:
    registry = ask(by_token, username=USER, password=PASSWORD)
    for _ in range(2):
        assert not await registry.has("shop", DIGEST)
        assert not await registry.has("shop", DIGEST.replace("0", "1"))
    assert tokens.asked == ["repository:previews/shop:pull"]
    assert not await registry.has("other", DIGEST)
    assert tokens.asked[1:] == ["repository:previews/other:pull"]


async def test_a_token_server_that_refuses_is_a_refusal(
    ask: Callable[..., Registry], by_token: Server, tokens: TokenServer
) -> None:
    with pytest.raises(PreviewError) as refused:
        await ask(by_token, username=USER, password="another").has("shop", DIGEST)
    assert refused.value.reason == "CredentialsRefused"
    assert tokens.asked


async def test_a_token_server_in_trouble_is_an_outage(
    ask: Callable[..., Registry], by_token: Server, tokens: TokenServer
) -> None:
    registry = ask(by_token, username=USER, password=PASSWORD)
    tokens.fail_with = 503
    with pytest.raises(PreviewError) as failed:
        await registry.has("shop", DIGEST)
    assert (failed.value.reason, failed.value.retryable) == ("Unreachable", True)
    assert "token server answered 503" in failed.value.evidence[0]
    tokens.fail_with = None
    assert not await registry.has("shop", DIGEST)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"auths": []}', '{"auths": {"ADDRESS": {"auth": "no base64!"}}}'])
async def test_a_file_that_is_none_is_named_and_not_shown(
    ask: Callable[..., Registry], guarded: Server, tmp_path: Path, text: str
) -> None:
    registry = ask(guarded, username=USER, password=PASSWORD)
    (tmp_path / "config.json").write_text(text.replace("ADDRESS", guarded.address))
    part = await registry.part()
    assert not part.ok
    assert str(tmp_path / "config.json") in part.detail
    assert "no base64!" not in part.detail


async def test_a_file_that_is_missing_is_named(ask: Callable[..., Registry], guarded: Server, tmp_path: Path) -> None:
    registry = ask(guarded)
    (tmp_path / "config.json").unlink()
    assert "No such file" in (await registry.part()).detail


# ------------------------------------------------------------------------- parts


def _with_auth(folder: Path, auth: dict[str, object]) -> Server:
    server = registry_server(folder)
    file = folder / "registry.yml"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auth": auth}))
    return server


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    return builder.sign(key, hashes.SHA256())


def _basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode()}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
