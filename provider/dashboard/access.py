"""Who may look: the token, the cookie that stands for it, the host that was asked; and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from pydantic import SecretStr

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "preview_dashboard"
COOKIE_SECONDS = 7 * 24 * 3600
WRONG_TOKEN_SECONDS = 0.5
"""How long a wrong token waits for its answer."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's alone."""
    bare = host.strip("[]")
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


def host_of(address: str) -> str:
    """The host of host:port, or of a Host header."""
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdecimal() else address


class Access:
    """Decides who may look.

    Args:
        token: opens the dashboard; empty: it is open, but on loopback only.
        address: where the HTTP server listens.
    """

    def __init__(self, token: SecretStr, address: str) -> None:
        self._token = token.get_secret_value().encode()
        self._loopback = is_loopback(host_of(address))

    @property
    def possible(self) -> bool:
        """Whether anything is shown at all: elsewhere than on loopback only to those who have the token."""
        return self._loopback or bool(self._token)

    def guarded(self, handler: Handler) -> Handler:
        """The handler, for those who may look; others are sent to log in."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self.may_look(request):
                wants_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
                if wants_page:
                    raise web.HTTPSeeOther("/login")
                raise web.HTTPUnauthorized(text="log in, or send the token\n", headers={"WWW-Authenticate": "Bearer"})
            return await handler(request)

        return self.open(guarded)

    def open(self, handler: Handler) -> Handler:
        """The handler, for everybody; its answers carry the headers, and its bugs show nothing."""

        async def opened(request: web.Request) -> web.StreamResponse:
            try:
                self._check(request)
                answer = await handler(request)
            except web.HTTPException as answered:
                answered.headers.update(HEADERS)
                raise
            except ConnectionError:
                raise  # whoever asked is gone
            except Exception:
                log.exception("dashboard.failed", path=request.path)
                raise web.HTTPInternalServerError(text="a bug; the log has it\n", headers=HEADERS) from None
            if not answer.prepared:
                answer.headers.update(HEADERS)
            return answer

        return opened

    def _check(self, request: web.Request) -> None:
        if not self.possible:
            raise web.HTTPForbidden(text="The dashboard is off: set DASHBOARD_TOKEN, or HTTP_ADDRESS to loopback.\n")
        # A page from elsewhere, whose name was made to lead here, may not read this as its own.
        if self._loopback and not is_loopback(host_of(request.headers.get("Host", ""))):
            raise web.HTTPMisdirectedRequest(text="This is asked as localhost, or by a loopback address.\n")

    def may_look(self, request: web.Request) -> bool:
        """Whether the request carries the token, or the cookie that stands for it."""
        if not self._token:
            return True
        kind, _, sent = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(sent)
        return self._is_cookie(request.cookies.get(COOKIE, ""))

    def is_token(self, sent: str) -> bool:
        """Whether that is the token."""
        return hmac.compare_digest(sent.strip().encode(errors="replace"), self._token)

    def let_in(self, answer: web.Response) -> None:
        """Give the browser a cookie that every process with the same token believes, for a week."""
        until = str(int(time.time()) + COOKIE_SECONDS)
        answer.set_cookie(
            COOKIE, f"{until}.{self._sealed(until)}", max_age=COOKIE_SECONDS, httponly=True, samesite="Strict", path="/"
        )

    def _is_cookie(self, value: str) -> bool:
        until, _, seal = value.partition(".")
        fresh = until.isascii() and until.isdecimal() and len(until) < 16 and int(until) > time.time()
        return fresh and hmac.compare_digest(seal.encode(errors="replace"), self._sealed(until).encode())

    def _sealed(self, until: str) -> str:
        return hmac.new(self._token, f"dashboard until {until}".encode(), hashlib.sha256).hexdigest()
