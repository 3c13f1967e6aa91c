"""Who this process is to the bus, in the ways that NATS knows: what files hold is read anew at each connection.

So a password, a key or a certificate is rotated by writing its file: the next connection is made with what stands there
then. While a file cannot be read in a rotation, what it held before is tried.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import nats.errors
import nkeys
import structlog
from nats.aio.client import Client
from nats.aio.transport import WebSocketTransport

from provider.errors import Code, Permanent
from provider.settings import Settings

T = TypeVar("T")
log = structlog.get_logger(__name__)

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----([^-]+)-----END")
_PART = re.compile(r"-{3,} *BEGIN [^-]+-{3,}\s+(\S+)\s+-{3,} *END")


class NoTls(nats.errors.Error):
    """Whoever answers offers no TLS, where TLS is wanted."""


class BusClient(Client):
    """A client that tells nobody who it is in plain text where it was given TLS.

    The library does what the server says (seen on nats-py 2.16.0): whoever answers without TLS would get the password.
    """

    secrets: frozenset[str] = frozenset()
    """Passwords, tokens and keys that were read from files; those from before a rotation stay."""

    def learn(self, *secrets: str) -> None:
        """These were read from files."""
        self.secrets |= frozenset(secrets)

    async def close(self) -> None:
        """See `Client`; also what it leaves open of a websocket that was refused (seen on nats-py 2.16.0)."""
        await super().close()
        if isinstance(self._transport, WebSocketTransport) and self._transport:
            await self._transport._client.close()

    async def _connect_to_server(self, server: Any) -> None:
        if self.options.get("tls") is not None and server.uri.scheme == "ws":  # its first words have the URL's password
            raise NoTls("nats: a URL of ws:// offers no TLS")
        await super()._connect_to_server(server)

    def _connect_command(self) -> bytes:
        inside_tls = self._current_server is not None and self._current_server.uri.scheme == "wss"
        if self.options.get("tls") is not None and not (inside_tls or self._server_info.get("tls_required")):
            raise NoTls("nats: the server offers no TLS")
        return super()._connect_command()


Learn = Callable[..., None]
"""Is told what is secret of what was read from a file."""


def _nobody(*_: str) -> None:
    """For whoever masks nothing."""


class _Fresh(Generic[T]):
    """What `make` makes of the files that a variable names, at each call; where it fails, what it made last.

    Raises:
        Permanent: it fails at the first time.
    """

    def __init__(self, variable: str, make: Callable[[], T], reason: str = "BusCredentials") -> None:
        self._variable = variable
        self._make = make
        try:
            self._last = make()
        except (OSError, ValueError, nkeys.NkeysError) as error:
            raise Permanent(
                Code.PLATFORM_UNREACHABLE,
                f"{variable} cannot be used: {_told(error)}.",
                reason=reason,
                hint=f"Check the file that {variable} names, and that this process may read it.",
            ) from None

    def __call__(self) -> T:
        try:
            self._last = self._make()
        except (OSError, ValueError, nkeys.NkeysError) as error:
            log.warning("bus.identity_unreadable", variable=self._variable, error=_told(error))
        return self._last


class _FreshTls(ssl.SSLContext):
    """Makes each connection by a context of its own, from the files as they are then."""

    _context: _Fresh[ssl.SSLContext]

    def __new__(cls, context: _Fresh[ssl.SSLContext]) -> _FreshTls:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made._context = context
        return made

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """What asyncio begins a connection with."""
        return self._context().wrap_bio(*args, **named)


def identity(settings: Settings, nc: Client, learn: Learn = _nobody) -> dict[str, Any]:
    """The options of `nc.connect` that say who connects, and from whom answers are taken.

    Raises:
        Permanent: a file cannot be read, or does not hold what it should; the variable is named.
    """
    context = tls(settings, learn)
    return {
        "inbox_prefix": settings.nats_inbox_prefix,
        **({"tls": context} if context is not None else {}),
        **_credentials(settings, nc, learn),
    }


def tls(settings: Settings, learn: Learn) -> ssl.SSLContext | None:
    """The TLS side of connections, or None where no TLS file is set. Raises Permanent."""
    named = {name: getattr(settings, name) for name in ("nats_ca_file", "nats_client_cert", "nats_client_key")}
    if not (settings.nats_ca_file or settings.nats_client_cert):
        return None

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=settings.nats_ca_file)
        if settings.nats_client_cert:
            context.load_cert_chain(settings.nats_client_cert, settings.nats_client_key)
            pem = (settings.nats_client_key or settings.nats_client_cert).read_text()
            learn(*("".join(lines.split()) for lines in _PRIVATE_KEY.findall(pem)))
        return context

    variables = ", ".join(name.upper() for name, value in named.items() if value)
    return _FreshTls(_Fresh(variables, make, "BusCertificates"))


def shown(settings: Settings) -> str:
    """How the settings say who this is, for a person who has to look there."""
    names = ("nats_credentials_file", "nats_nkey_file", "nats_token_file", "nats_password_file", "nats_client_cert")
    return ", ".join(name.upper() for name in names if getattr(settings, name)) or "NATS_URL"


def of_tls(error: Exception) -> Exception:
    """What TLS said, where a websocket's client has put other words around it; else the error itself."""
    return error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error


def let_go(nc: Client) -> None:
    """Close the socket of an attempt to connect that failed: the client leaves it open (seen on nats-py 2.16.0)."""
    if (nc.is_connecting or nc.is_reconnecting) and nc._transport is not None:
        nc._transport.close()  # type: ignore[no-untyped-call]


def _credentials(settings: Settings, nc: Client, learn: Learn) -> Mapping[str, Any]:
    def learnt(secret: str) -> str:
        learn(secret)
        return secret

    if settings.nats_credentials_file:
        creds = _Fresh("NATS_CREDENTIALS_FILE", lambda: [*map(learnt, _parts(_text(settings.nats_credentials_file)))])
        return {"signature_cb": lambda nonce: _signed(creds()[1], nonce), "user_jwt_cb": lambda: creds()[0].encode()}
    if settings.nats_nkey_file:
        seed = _Fresh("NATS_NKEY_FILE", lambda: _checked_seed(learnt(_text(settings.nats_nkey_file))))

        def sign(nonce: str) -> bytes:
            key = nkeys.from_seed(bytearray(seed().encode()))
            nc._public_nkey = key.public_key.decode()  # set once by the client itself; nats-py is pinned
            return base64.b64encode(key.sign(nonce.encode()))

        return {"signature_cb": sign}
    if settings.nats_token_file:
        return {"token": _Fresh("NATS_TOKEN_FILE", lambda: learnt(_text(settings.nats_token_file)))}
    if settings.nats_password_file:
        password = _Fresh("NATS_PASSWORD_FILE", lambda: learnt(_text(settings.nats_password_file)))
        return {"user": settings.nats_user, "password": password}
    return {}


def _text(path: Path | None) -> str:
    """What stands in a file, without white space around it."""
    assert path is not None, "asked for only where it is set"
    if not (text := path.read_text().strip()):
        raise ValueError("it is empty")
    return text


def _parts(text: str) -> tuple[str, str]:
    """The user's JWT and seed in a credentials file."""
    found = _PART.findall(text)
    if len(found) != 2:
        raise ValueError("it holds no user JWT and seed, as `nsc` writes them")
    return found[0], _checked_seed(found[1])


def _checked_seed(seed: str) -> str:
    nkeys.from_seed(bytearray(seed.encode()))
    return seed


def _signed(seed: str, nonce: str) -> bytes:
    return base64.b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))


def _told(error: Exception) -> str:
    """The error without anything that a file holds."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it holds no seed of a key" if isinstance(error, nkeys.NkeysError) else str(error)
