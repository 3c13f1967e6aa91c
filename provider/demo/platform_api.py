"""The platform's credentials endpoint as the contract describes it, for the demo and for the tests.

`GET /api/internal/git-credential?installation_id=<id>` with `X-Internal-Token` → `{"username", "token"}`.
"""

from __future__ import annotations

import hmac

from aiohttp import web

from provider.demo.loopback import LoopbackServer
from provider.models import Secret

CREDENTIALS_PATH = "/api/internal/git-credential"


class PlatformApi(LoopbackServer):
    """Hands out one fixed pair of clone credentials.

    Args:
        internal_token: what callers must send as `X-Internal-Token`.
        username, token: the credentials to hand out; a test may change them while it runs.

    Attributes:
        garbage: a body sent with status 200 instead of the credentials.
        asked_for: the installation ids that were asked for, in order.
    """

    def __init__(self, *, internal_token: Secret, username: str, token: Secret) -> None:
        super().__init__()
        self.username = username
        self.token = token
        self.garbage: bytes | None = None
        self.asked_for: list[str] = []
        self.internal_token = internal_token

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer one request for credentials."""
        if request.method != "GET" or request.path != CREDENTIALS_PATH:
            return web.json_response({"error": "not found"}, status=404)
        sent = request.headers.get("X-Internal-Token", "").encode()
        if not hmac.compare_digest(sent, self.internal_token.get_secret_value().encode()):
            return web.json_response({"error": "unauthorized"}, status=401)
        installation = request.query.get("installation_id", "")
        if not installation.isdecimal():
            return web.json_response({"error": "installation_id must be a number"}, status=400)
        self.asked_for.append(installation)
        if self.garbage is not None:
            return web.Response(body=self.garbage, content_type="application/json")
        return web.json_response({"username": self.username, "token": self.token.get_secret_value()})
