"""The connection to the bus: bounded at first, endless afterwards, and never silently dead."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from provider.bus.identity import BusClient, NoTls, identity, let_go, of_tls, shown
from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.settings import Settings
from provider.store.jetstream import translated

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
_SERVER_SECONDS = 3
_PING_SECONDS = 15
_RECONNECT_PAUSE = 0.5
_NO_JETSTREAM = (10039, 10076)  # not enabled for the account, not enabled at all


class _Watcher:
    """The client's callbacks. One that raises would stop reconnection, so none does."""

    def __init__(self, nc: Client, on_closed: Callable[[], None]) -> None:
        self._nc = nc
        self._on_closed = on_closed
        self.connected = False
        self.last_error: Exception | None = None
        self.refused = asyncio.Event()

    async def error(self, error: Exception) -> None:
        error = self.last_error = of_tls(error)
        let_go(self._nc)
        text = str(error).lower()
        broken_off = isinstance(error, ssl.SSLEOFError)  # by a server that goes, and will be back
        if "authorization violation" in text or (isinstance(error, ssl.SSLError | NoTls) and not broken_off):
            self.refused.set()
        if self.connected and "violation" in text:
            # Of a connection that was good: a rotation that is not complete, or permissions that lack something.
            log.error("bus.refused", detail=str(error))
        # While there is no connection this comes with every attempt; its loss was a warning already.
        log.debug("bus.error", error=type(error).__name__, detail=str(error))

    async def disconnected(self) -> None:
        if self.connected:
            log.warning("bus.disconnected", error=type(self.last_error).__name__ if self.last_error else None)

    async def reconnected(self) -> None:
        log.info("bus.reconnected")

    async def closed(self) -> None:
        if not self.connected:
            return  # a first connection that was given up
        try:
            self._on_closed()
        except Exception:
            log.exception("bus.on_closed")


async def connect(settings: Settings, on_closed: Callable[[], None], *, timeout: float = CONNECT_SECONDS) -> BusClient:
    """Connect within `timeout` seconds; from then on the client reconnects for ever.

    `on_closed` is called when the client gave up for good, and when it is closed on purpose.

    Raises:
        Permanent: the credentials or the certificates are refused or unreadable.
        Temporary: no server answered.
    """
    nc = BusClient()
    watcher = _Watcher(nc, on_closed)
    connecting = asyncio.ensure_future(nc.connect(**_options(settings, watcher), **identity(settings, nc, nc.learn)))
    refused = asyncio.ensure_future(watcher.refused.wait())
    try:
        await asyncio.wait({connecting, refused}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done() and connecting.exception() is None:
            watcher.connected = True
            log.info("bus.connected", server=_shown(settings.nats_url), version=str(nc.connected_server_version))
            return nc
        raise _unreachable(settings, watcher, connecting)
    finally:
        refused.cancel()
        if not watcher.connected:
            await _give_up(nc, connecting)


def _options(settings: Settings, watcher: _Watcher) -> dict[str, Any]:
    return {
        "servers": [url.strip() for url in settings.nats_url.split(",")],
        "name": "preview-provider",
        "connect_timeout": _SERVER_SECONDS,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RECONNECT_PAUSE,
        "ping_interval": _PING_SECONDS,
        "error_cb": watcher.error,
        "disconnected_cb": watcher.disconnected,
        "reconnected_cb": watcher.reconnected,
        "closed_cb": watcher.closed,
    }


def _unreachable(settings: Settings, watcher: _Watcher, connecting: asyncio.Future[None]) -> PreviewError:
    error = connecting.exception() if connecting.done() else watcher.last_error
    server = _shown(settings.nats_url)
    detail = (f"{type(error).__name__}: {error}",) if error else ()
    if isinstance(error, NoTls):
        return Permanent(
            Code.PLATFORM_UNREACHABLE,
            f"The bus at {server} offers no TLS, though certificates are set.",
            reason="BusNotEncrypted",
            hint="Is NATS_URL right, and TLS on in the server? Without it, unset NATS_CA_FILE and NATS_CLIENT_CERT.",
        )
    if watcher.refused.is_set() and not isinstance(error, ssl.SSLError):
        return Permanent(
            Code.PLATFORM_UNREACHABLE,
            f"The bus at {server} refused the credentials.",
            reason="BusCredentialsRefused",
            hint=f"Check {shown(settings)}, and what the server knows of this user.",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return Permanent(
            Code.PLATFORM_UNREACHABLE,
            f"The certificate of the bus at {server} is not trusted.",
            reason="BusCertificates",
            hint="Check NATS_CA_FILE.",
            evidence=detail,
        )
    if isinstance(error, ssl.SSLError):
        return Permanent(
            Code.PLATFORM_UNREACHABLE,
            f"The bus at {server} refused this process's certificate, or its lack of one.",
            reason="BusCredentialsRefused",
            hint="Check NATS_CLIENT_CERT and NATS_CLIENT_KEY, and the authority that the server trusts.",
            evidence=detail,
        )
    return Temporary(
        Code.PLATFORM_UNREACHABLE,
        f"The bus at {server} did not answer.",
        reason="BusUnreachable",
        hint="Is nats-server up, and NATS_URL right?",
        evidence=detail,
    )


async def _give_up(nc: Client, connecting: asyncio.Future[None]) -> None:
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await nc.close()


def _shown(urls: str) -> str:
    """The servers without the credentials that may stand in their URLs."""
    parts = (urlsplit(url.strip() if "//" in url else f"//{url.strip()}") for url in urls.split(","))
    return ",".join(part.netloc.rpartition("@")[2] for part in parts)


async def has_jetstream(nc: Client) -> bool:
    """Whether this bus keeps streams.

    Raises:
        Temporary: it does not say. A slow bus must not be taken for one that forgets everything.
    """
    with translated():
        try:
            await nc.jetstream().account_info()
        except nats.js.errors.APIError as error:
            if error.err_code in _NO_JETSTREAM or (error.err_code is None and error.code is None):
                return False
            raise
        except nats.errors.NoRespondersError:
            return False
    return True


async def settled(nc: Client) -> None:
    """Wait until the server has everything that was subscribed and published so far.

    One `flush` is not enough: its PING overtakes what the client's flusher has not written yet (seen on
    nats-py 2.16.0: one subscription in fifteen was not there afterwards). A second one comes behind it.
    """
    await nc.flush()
    await nc.flush()
