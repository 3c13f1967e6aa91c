"""Whatever a registry, a git host, the platform's API or a preview answers: an error of ours, or what was asked for.

No answer makes anything else of it, keeps anybody longer than the limits say, or is read without end.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.errors import PreviewError
from provider.http_client import http_client
from provider.models import AcceptanceCheck
from provider.pipeline import checks
from provider.platforms.registry import Registry
from provider.settings import Settings
from provider.source import Credentials, Source
from tests.fuzz.hostile import Hostile, Reply, endless, hostile_server, http, replies

FUZZ = settings.get_profile("fuzz")
SECONDS = 12.0
"""For one question, whatever is answered: every client has a limit below that."""
MOST_TAKEN = 24 << 20
"""Bytes of one answer that anybody may take before it is given up, those in the sockets' buffers among them."""
MOST_SAID = 100_000
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
async def hostile() -> AsyncIterator[Hostile]:
    async with hostile_server() as server:
        yield server


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as one:
        yield one


async def harmless(call: Callable[[], Awaitable[object]]) -> None:
    """The call answers or fails with an error of ours, in time."""
    try:
        async with asyncio.timeout(SECONDS):
            await call()
    except PreviewError as error:
        if len(str(error)) + sum(map(len, error.evidence)) > MOST_SAID:
            raise AssertionError("the error says too much") from error


def registry(hostile: Hostile, client: httpx.AsyncClient) -> Registry:
    return Registry(settings=Settings(registry_address=hostile.address, registry_insecure=True), http=client)


@FUZZ
@given(
    answers=st.lists(
        replies("repositories", "tags", "config", "created", "token", "expires_in"), min_size=1, max_size=3
    )
)
async def test_answers_of_a_registry(hostile: Hostile, client: httpx.AsyncClient, answers: list[Reply]) -> None:
    asked = registry(hostile, client)
    for call in (
        lambda: asked.has("app", DIGEST),
        asked.slugs,
        lambda: asked.tags("app"),
        lambda: asked.digest("app", "tag"),
        lambda: asked.image("app", DIGEST),
        lambda: asked.delete("app", DIGEST),
        asked.part,
    ):
        hostile.tell(*answers)
        await harmless(call)


async def test_a_registry_without_end(hostile: Hostile, client: httpx.AsyncClient) -> None:
    asked = registry(hostile, client)
    many = json.dumps({"repositories": [f"previews/a{number}" for number in range(1000)]}).encode()
    for reply in (endless(), endless(401, head="WWW-Authenticate: Bearer"), http(200, many)):
        hostile.tell(reply)
        await harmless(asked.slugs)
        assert hostile.sent < MOST_TAKEN
        hostile.tell(reply)
        await harmless(lambda: asked.image("app", DIGEST))
        assert hostile.sent < MOST_TAKEN


@FUZZ
@given(answer=replies("username", "token"))
async def test_answers_of_the_credentials_endpoint(hostile: Hostile, client: httpx.AsyncClient, answer: Reply) -> None:
    hostile.tell(answer)
    api = Settings(api_url=f"http://{hostile.address}", api_timeout=2)
    await harmless(lambda: Credentials(settings=api, http=client).mint(1))


async def test_credentials_without_end(hostile: Hostile, client: httpx.AsyncClient) -> None:
    hostile.tell(endless(begin=b'{"username": "'))
    api = Settings(api_url=f"http://{hostile.address}", api_timeout=2)
    await harmless(lambda: Credentials(settings=api, http=client).mint(1))
    assert hostile.sent < MOST_TAKEN


MARKS = [b"0000", b"0001", b"0002", b"0003", b"ffff", b"zzzz", b"000eversion 2\n", b"000dpackfile\n"]
LINES = [b"003d" + b"a" * 40 + b" refs/heads/main\n", b"0033shallow " + b"b" * 40, b"0011\x01PACK\0\0\0\2\0\0\0\1"]
ANY_PACKET = st.binary(max_size=60).map(lambda data: b"%04x" % (len(data) + 4) + data)
PACKETS = st.lists(ANY_PACKET | st.sampled_from(MARKS) | st.sampled_from(LINES), max_size=6).map(b"".join)


def packets(kind: str) -> st.SearchStrategy[Reply]:
    """What a git host may say, in git's own packets."""
    return PACKETS.map(lambda body: http(200, body, Content_Type=f"application/x-git-upload-pack-{kind}"))


@settings(FUZZ, max_examples=max(8, FUZZ.max_examples // 5))
@given(answers=st.lists(replies("x") | packets("result") | packets("advertisement"), min_size=1, max_size=3))
async def test_answers_of_a_git_host(
    hostile: Hostile, client: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory, answers: list[Reply]
) -> None:
    folder = tmp_path_factory.mktemp("git")
    source = git_source(hostile, client, folder)
    for call in (lambda: source.heads("a/b", None), lambda: source.resolve("a/b", "main", None, None)):
        hostile.tell(*answers)
        await harmless(call)
    shutil.rmtree(folder)


async def test_a_git_host_without_end(hostile: Hostile, client: httpx.AsyncClient, tmp_path: Path) -> None:
    source = git_source(hostile, client, tmp_path)
    ref = b"003d" + b"a" * 40 + b" refs/heads/main\n"
    result = "Content-Type: application/x-git-upload-pack-result"
    for reply in (endless(), endless(more=ref, head=result), endless(more=b"0005\x02", head=result)):
        hostile.tell(reply)
        await harmless(lambda: source.resolve("a/b", "main", None, None))


def git_source(hostile: Hostile, client: httpx.AsyncClient, folder: Path) -> Source:
    own = Settings(git_base_url=f"http://{hostile.address}", state_dir=folder, git_timeout=1, git_max_bytes=1 << 20)
    return Source(settings=own, credentials=Credentials(settings=own, http=client), http=client)


@FUZZ
@given(answers=st.lists(replies("state"), min_size=1, max_size=3), has_json=st.booleans())
async def test_answers_of_a_preview(hostile: Hostile, answers: list[Reply], has_json: bool) -> None:
    check = AcceptanceCheck(path="/x", body_matches="(a*)*b", json_={"a": 1} if has_json else None)
    target = checks.Target("http://app.preview.test", f"http://{hostile.address}", None)
    hostile.tell(*answers)
    async with checks.client(target) as asking, asyncio.timeout(SECONDS):
        result = await checks.ask(asking, target, check)
    assert len(result.got) < 100_000


async def test_a_preview_without_end(hostile: Hostile) -> None:
    target = checks.Target("http://app.preview.test", f"http://{hostile.address}", None)
    hostile.tell(endless(more=b"a"))
    async with checks.client(target) as asking, asyncio.timeout(SECONDS):
        await checks.ask(asking, target, AcceptanceCheck(path="/", body_contains="b"))
    assert hostile.sent < MOST_TAKEN
