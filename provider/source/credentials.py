"""Clone credentials, minted by the platform's API server for one installation (contract.md).

A credential lives an hour; it is kept for five minutes, so that a burst of deploys asks once. It is
never kept past a refusal: whoever was refused says so with `forget`.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

import httpx

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.models import Secret
from provider.settings import Settings

KEPT_SECONDS = 300.0
MAX_ANSWER_BYTES = 64 << 10

_AWAY = "ask again; if it stays so, look at the API server at API_URL"
_HINTS = {
    401: "API_INTERNAL_TOKEN is not the one that the API server expects",
    403: "API_INTERNAL_TOKEN is not the one that the API server expects",
    404: "the platform knows no such installation, or API_URL names another server",
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What a clone needs; `minted_at` is `time.monotonic()` seconds."""

    username: str
    token: Secret
    minted_at: float


class Credentials:
    """Mints clone credentials.

    Args:
        settings: `api_url`, `api_internal_token`, `api_timeout`.
        http: the client to ask with; stays its owner's to close.
    """

    def __init__(self, *, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._kept: dict[int, Credential] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def mint(self, installation_id: int) -> Credential:
        """A credential of that installation, at most five minutes old.

        Raises:
            Permanent, Temporary: with code `token_mint_failed`.
        """
        # One at a time per installation: those who waited find what the first one got.
        async with self._locks.setdefault(installation_id, asyncio.Lock()):
            kept = self._kept.get(installation_id)
            if kept is None or time.monotonic() - kept.minted_at > KEPT_SECONDS:
                kept = self._kept[installation_id] = await self._ask(installation_id)
            return kept

    def forget(self, installation_id: int, refused: Credential) -> None:
        """Drop a credential that git's host refused; a newer one, minted meanwhile, stays."""
        if self._kept.get(installation_id) is refused:
            del self._kept[installation_id]

    async def _ask(self, installation_id: int) -> Credential:
        if not self._settings.api_url:
            raise Permanent(
                Code.TOKEN_MINT_FAILED,
                "clone credentials were asked for, but API_URL is not set",
                reason="NotConfigured",
                hint="set API_URL and API_INTERNAL_TOKEN, or leave installation_id out for a public repository",
                retryable=False,
            )
        try:
            async with asyncio.timeout(self._settings.api_timeout):
                status, body = await self._get(installation_id)
        except TimeoutError:
            raise _unreachable(f"did not answer within {self._settings.api_timeout:g} s") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise Permanent(
                Code.TOKEN_MINT_FAILED,
                f"API_URL is not a usable URL: {error}",
                reason="NotConfigured",
                retryable=False,
                hint="set API_URL to the http or https address of the platform's API server",
            ) from None
        except httpx.HTTPError as error:
            raise _unreachable(f"did not answer: {error or type(error).__name__}") from None
        if status != httpx.codes.OK:
            raise _refused(status, installation_id)
        return _credential(body)

    async def _get(self, installation_id: int) -> tuple[int, bytes]:
        """Status and body; of a body that is too long only as much as shows that."""
        body = bytearray()
        async with self._http.stream(
            "GET",
            f"{self._settings.api_url}/api/internal/git-credential",
            params={"installation_id": installation_id},
            headers={"X-Internal-Token": self._settings.api_internal_token.get_secret_value()},
            timeout=self._settings.api_timeout,
            follow_redirects=False,  # the internal token is for this server alone
        ) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
        return response.status_code, bytes(body)


def _credential(body: bytes) -> Credential:
    """The answer's credential. What is wrong with a bad one is said without showing any of it."""
    try:
        answer = json.loads(body) if len(body) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):
        answer = None
    pair = (answer.get("username"), answer.get("token")) if isinstance(answer, dict) else (None, None)
    match pair:
        # A colon would end the user name early in Basic authorization.
        case (str(username), str(token)) if username and token and ":" not in username:
            return Credential(username, Secret(token), time.monotonic())
    raise Temporary(
        Code.TOKEN_MINT_FAILED,
        "the platform's credentials endpoint answered 200 without a username and a token",
        reason="BadAnswer",
        hint="look at the API server at API_URL: it does not speak the credentials contract",
        evidence=("status 200", f"{len(body)} bytes"),
    )


def _refused(status: int, installation_id: int) -> PreviewError:
    message = f"the platform's credentials endpoint answered {status} for installation {installation_id}"
    evidence = (f"status {status}",)
    if status >= 500 or status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS):
        return Temporary(Code.TOKEN_MINT_FAILED, message, reason="Unreachable", hint=_AWAY, evidence=evidence)
    return Permanent(
        Code.TOKEN_MINT_FAILED,
        message,
        reason="Refused",
        hint=_HINTS.get(status),
        evidence=evidence,
        whose=Whose.PLATFORM,
        retryable=False,
    )


def _unreachable(what: str) -> Temporary:
    message = f"the platform's credentials endpoint {what}"
    return Temporary(Code.TOKEN_MINT_FAILED, message, reason="Unreachable", hint=_AWAY)
