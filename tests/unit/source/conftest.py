"""A git host and an API for credentials, both real, and sources that ask them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider.demo.git_server import GitServer
from provider.demo.platform_api import PlatformApi
from provider.http_client import http_client
from provider.models import Secret
from provider.settings import Settings
from provider.source import Credentials, Source
from tests.unit.source.helpers import REPO, TOKEN, MakeSource


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[GitServer]:
    async with GitServer(tmp_path / "host", username="x-access-token", token=Secret(TOKEN)) as server:
        await server.create(REPO)
        yield server


@pytest.fixture
async def api() -> AsyncIterator[PlatformApi]:
    async with PlatformApi(internal_token=Secret("i"), username="x-access-token", token=Secret(TOKEN)) as server:
        yield server


@pytest.fixture
async def make(host: GitServer, api: PlatformApi, tmp_path: Path) -> AsyncIterator[MakeSource]:
    async with http_client() as http, contextlib.AsyncExitStack() as made:

        def source(**changed: object) -> Source:
            values = {
                "state_dir": tmp_path / "state",
                "git_base_url": host.url,
                "api_url": api.url,
                "api_internal_token": Secret("i"),
                "git_timeout": 20,
            }
            chosen = Settings.model_validate(values | changed)
            one = Source(settings=chosen, credentials=Credentials(settings=chosen, http=http), http=http)
            made.push_async_callback(one.close)
            return one

        yield source


@pytest.fixture
def source(make: MakeSource) -> Source:
    return make()
