"""Clone credentials: what the platform's endpoint may answer, and what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from provider.demo.platform_api import PlatformApi
from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.http_client import http_client
from provider.models import Secret
from provider.settings import Settings
from provider.source import Credentials
from provider.source.credentials import MAX_ANSWER_BYTES

TOKEN = "ghs_AVeryRecognisableToken"
INTERNAL = "an-internal-token"


@pytest.fixture
async def api() -> AsyncIterator[PlatformApi]:
    async with PlatformApi(internal_token=Secret(INTERNAL), username="x-access-token", token=Secret(TOKEN)) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


def credentials(
    http: httpx.AsyncClient, url: str, *, internal: str = INTERNAL, timeout_seconds: float = 5
) -> Credentials:
    settings = Settings(api_url=url, api_internal_token=Secret(internal), api_timeout=timeout_seconds)
    return Credentials(settings=settings, http=http)


async def refusal(minter: Credentials) -> PreviewError:
    with pytest.raises(PreviewError) as caught:
        await minter.mint(7)
    assert caught.value.code is Code.TOKEN_MINT_FAILED
    assert caught.value.whose is Whose.PLATFORM
    shown = repr(vars(caught.value)) + str(caught.value)
    assert TOKEN not in shown
    assert INTERNAL not in shown
    return caught.value


async def test_a_credential_is_minted_for_the_installation(api: PlatformApi, http: httpx.AsyncClient) -> None:
    credential = await credentials(http, api.url).mint(42)
    assert (credential.username, credential.token.get_secret_value()) == ("x-access-token", TOKEN)
    assert api.asked_for == ["42"]
    assert TOKEN not in repr(credential)


async def test_many_at_once_ask_once_for_each_installation(api: PlatformApi, http: httpx.AsyncClient) -> None:
    minter = credentials(http, api.url)
    await asyncio.gather(*(minter.mint(number) for number in (1, 2) for _ in range(10)))
    assert sorted(api.asked_for) == ["1", "2"]


async def test_a_refused_credential_is_forgotten_but_not_its_successor(
    api: PlatformApi, http: httpx.AsyncClient
) -> None:
    minter = credentials(http, api.url)
    first = await minter.mint(7)
    minter.forget(7, first)
    second = await minter.mint(7)
    minter.forget(7, first)
    assert await minter.mint(7) is second
    assert api.requests == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 204])
async def test_a_refusal_is_permanent(api: PlatformApi, http: httpx.AsyncClient, status: int) -> None:
    api.fail_with = status
    error = await refusal(credentials(http, api.url))
    assert isinstance(error, Permanent)
    assert not error.retryable
    assert str(status) in error.message
    assert error.evidence == (f"status {status}",)


async def test_a_wrong_internal_token_names_its_variable(api: PlatformApi, http: httpx.AsyncClient) -> None:
    error = await refusal(credentials(http, api.url, internal="wrong"))
    assert isinstance(error, Permanent)
    assert "API_INTERNAL_TOKEN" in (error.hint or "")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_outage_is_temporary(api: PlatformApi, http: httpx.AsyncClient, status: int) -> None:
    api.fail_with = status
    error = await refusal(credentials(http, api.url))
    assert isinstance(error, Temporary)
    assert error.reason == "Unreachable"
    api.fail_with = None
    assert await credentials(http, api.url).mint(7)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"<html>",
        b"[]",
        b'"x"',
        b"{}",
        b'{"username": "", "token": "t"}',
        b'{"username": "u", "token": ""}',
        b'{"username": "u", "token": 5}',
        b'{"username": "u:v", "token": "t"}',
        b'{"username": null, "token": "t"}',
        b"\xff\xfe",
        b'{"username": "u", "token": "' + b"t" * MAX_ANSWER_BYTES + b'"}',
        b"[" * 50_000,
    ],
)
async def test_an_answer_without_a_credential_is_temporary(
    api: PlatformApi, http: httpx.AsyncClient, garbage: bytes
) -> None:
    api.garbage = garbage
    error = await refusal(credentials(http, api.url))
    assert isinstance(error, Temporary)
    assert error.reason == "BadAnswer"


async def test_a_hang_ends_in_time(api: PlatformApi, http: httpx.AsyncClient) -> None:
    api.hang = True
    began = time.monotonic()
    error = await refusal(credentials(http, api.url, timeout_seconds=0.3))
    assert isinstance(error, Temporary)
    assert 0.3 <= time.monotonic() - began < 1.5


async def test_nobody_listens(http: httpx.AsyncClient) -> None:
    assert isinstance(await refusal(credentials(http, "http://127.0.0.1:1")), Temporary)


async def test_no_api_url_names_the_variable(http: httpx.AsyncClient) -> None:
    error = await refusal(credentials(http, ""))
    assert isinstance(error, Permanent)
    assert "API_URL" in error.message


@pytest.mark.parametrize("url", ["localhost:80", "gopher://x", "http://x:port"])
async def test_an_unusable_api_url_is_permanent(http: httpx.AsyncClient, url: str) -> None:
    error = await refusal(credentials(http, url))
    assert isinstance(error, Permanent)
    assert "API_URL" in error.message
