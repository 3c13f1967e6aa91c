"""Branches that are gone, asked of a real git host: only a clear answer removes anything."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from provider.demo.git_server import GitServer
from provider.demo.loopback import LoopbackServer
from provider.demo.platform_api import PlatformApi
from provider.errors import PreviewError
from provider.http_client import http_client
from provider.keeper.branches import Branches
from provider.models import EventType, PreviewState, Secret
from provider.settings import Settings
from provider.source import Credentials, Source
from provider.store import claims
from provider.store.claims import Asker
from tests.unit.keeping import Surroundings
from tests.unit.test_claims import admit, deploy

REPO = "acme/app"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[GitServer]:
    server = GitServer(tmp_path / "repos", username="u", token=Secret("t0ken"))
    async with server:
        await server.create(REPO)
        await server.commit(REPO, "main", {"a": "1"})
        await server.commit(REPO, "feature/x", {"a": "2"})
        yield server


@pytest.fixture
async def api() -> AsyncIterator[PlatformApi]:
    server = PlatformApi(internal_token=Secret("i"), username="u", token=Secret("t0ken"))
    async with server:
        yield server


@pytest.fixture
async def around(host: GitServer, api: PlatformApi, tmp_path: Path) -> AsyncIterator[Surroundings]:
    async with http_client() as http:
        yield surroundings(host.url, api.url, tmp_path, http)


def surroundings(git: str, api: str, tmp_path: Path, http: httpx.AsyncClient, **more: object) -> Surroundings:
    values = {"git_base_url": git, "api_url": api, "api_internal_token": Secret("i"), "state_dir": tmp_path / "state"}
    settings = Settings.model_validate({**values, "git_timeout": 5.0, **more})
    return Surroundings(
        settings, Source(settings=settings, credentials=Credentials(settings=settings, http=http), http=http)
    )


@pytest.fixture
def branches(around: Surroundings) -> Branches:
    return Branches(**around.telling, heads=around.ctx.source.heads)


def delete(host: GitServer, *names: str) -> None:
    for name in names:
        subprocess.run(
            ["git", f"--git-dir={host.root / REPO}.git", "update-ref", "-d", f"refs/heads/{name}"], check=True
        )


async def featured(around: Surroundings, slug: str = "my-app", branch: str = "feature/x", **more: object) -> None:
    record = await around.preview(slug, branch=branch, installation_id=7, **more)
    assert record.last_good is not None
    good = record.last_good.model_copy(update={"branch": branch})
    await around.change(lambda one: one.model_copy(update={"last_good": good}) if one else record, slug)


async def rounds(around: Surroundings, branches: Branches, count: int) -> None:
    """So many listings, ten minutes apart."""
    for _ in range(count):
        around.passes(seconds=600)
        await branches.once()


# ----------------------------------------------------------------------------- gone, clearly


async def test_complaint_2_a_preview_whose_branch_is_gone_goes_after_the_grace(
    around: Surroundings, host: GitServer, branches: Branches
) -> None:
    await featured(around)
    await featured(around, "stays", "main")
    await branches.once()
    await rounds(around, branches, 2)
    assert around.told.events == []
    delete(host, "feature/x")
    await rounds(around, branches, 6)
    assert await around.is_there(), "the grace is not over"
    [warning] = around.told.events
    assert (warning.type, warning.data["reason"]) == (EventType.WARNING, "BranchGone")
    assert "feature/x" in around.told.sessions[0][1]
    await rounds(around, branches, 1)
    assert not await around.is_there()
    assert around.platform.removed == [("my-app", 1)]
    assert around.told.reasons() == ["BranchGone", "BranchRemoved"]
    assert [entry["action"] for entry in around.told.audited] == ["branch_gone"]
    assert await around.is_there("stays")


async def test_when_the_branch_is_back_the_grace_is_forgotten(
    around: Surroundings, host: GitServer, branches: Branches
) -> None:
    await featured(around)
    await branches.once()
    delete(host, "feature/x")
    await rounds(around, branches, 4)
    await host.commit(REPO, "feature/x", {"a": "3"})
    await rounds(around, branches, 1)
    record = await around.store.get_preview("my-app")
    assert record is not None
    assert record.branch_gone_at is None
    delete(host, "feature/x")
    await rounds(around, branches, 6)
    assert await around.is_there(), "it begins anew"


async def test_a_restart_does_not_begin_anew(around: Surroundings, host: GitServer, branches: Branches) -> None:
    await featured(around)
    await branches.once()
    delete(host, "feature/x")
    await rounds(around, branches, 5)
    fresh = Branches(**around.telling, heads=around.ctx.source.heads)
    await fresh.once()
    await rounds(around, fresh, 2)
    assert not await around.is_there()


async def test_one_listing_a_repository_and_interval_spread_over_time(around: Surroundings) -> None:
    asked: list[tuple[str, int]] = []

    async def heads(repo: str, installation_id: int | None) -> frozenset[str]:
        asked.append((repo, round((around.at.timestamp() % 86400) / 5)))
        return frozenset({"main"})

    for number in range(60):
        for slug in ("one", "two", "three"):
            await around.preview(f"{slug}-{number}", repo_full_name=f"acme/r{number}")
    branches = Branches(**around.telling, heads=heads)
    for _ in range(120 * 2 + 1):
        await branches.once()
        around.passes(seconds=5)
    per_repository = {repo: sum(one == repo for one, _ in asked) for repo, _ in asked}
    assert len(per_repository) == 60
    assert set(per_repository.values()) <= {1, 2}, "two intervals passed"
    moments = [moment for _, moment in asked]
    assert max(moments.count(one) for one in set(moments)) < 10


async def test_another_provider_s_repositories_are_left_to_it(
    around: Surroundings, host: GitServer, branches: Branches
) -> None:
    around.mine = False
    await featured(around)
    delete(host, "feature/x")
    await rounds(around, branches, 9)
    assert host.requests == 0


@pytest.mark.parametrize("how", ["claim", "deploy"])
async def test_whoever_wants_it_in_between_wins(
    around: Surroundings, host: GitServer, branches: Branches, how: str
) -> None:
    await featured(around)
    await branches.once()
    delete(host, "feature/x")
    await rounds(around, branches, 6)
    wishes = {
        "claim": claims.claimed(Asker("a"), 7 * 24 * 3600, around.at),
        "deploy": admit(deploy("d2", 20), at=around.at),
    }
    await around.unseen(wishes[how])
    await rounds(around, branches, 1)
    assert await around.is_there()


# ------------------------------------------------------------- what says nothing about previews


async def test_complaint_11_no_failure_of_the_git_host_removes_anything(
    around: Surroundings, host: GitServer, api: PlatformApi, branches: Branches
) -> None:
    """The branch is gone already and the grace is over but for a clear answer: none of these is one."""
    await featured(around)
    await branches.once()
    delete(host, "feature/x")
    await rounds(around, branches, 4)
    for status in (301, 400, 401, 403, 404, 410, 429, 500, 502, 503, 504):
        host.fail_with = status
        await rounds(around, branches, 2)
        assert await around.is_there(), status
    host.fail_with = None
    host.token = Secret("revoked")
    await rounds(around, branches, 2)
    api.fail_with = 404
    await rounds(around, branches, 2)
    assert await around.is_there(), "no credentials"
    host.token, api.fail_with = Secret("t0ken"), None
    (host.root / f"{REPO}.git").rename(host.root / "elsewhere.git")
    await rounds(around, branches, 2)
    assert await around.is_there(), "no such repository"
    (host.root / "elsewhere.git").rename(host.root / f"{REPO}.git")
    delete(host, "main")
    await rounds(around, branches, 9)
    assert await around.is_there(), "no branch at all"
    assert around.platform.removed == []
    assert around.told.reasons() == ["BranchGone"]
    await host.commit(REPO, "main", {"a": "1"})
    await rounds(around, branches, 1)
    assert not await around.is_there(), "now it is clear"


async def test_complaint_11_a_host_that_is_away_or_hangs_removes_nothing(tmp_path: Path, api: PlatformApi) -> None:
    class Hangs(LoopbackServer):
        async def respond(self, request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(b"0000")
            assert request.transport is not None
            request.transport.abort()
            return answer

    async with http_client() as http, Hangs() as hangs:
        for url in (hangs.url, "http://127.0.0.1:1"):
            around = surroundings(url, api.url, tmp_path, http)
            await featured(around, branch_gone_at=around.at)
            await rounds(around, Branches(**around.telling, heads=around.ctx.source.heads), 9)
            assert await around.is_there()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0000",
        b"003d" + b"a" * 40 + b" refs/heads/main\n",
        b"003d" + b"a" * 40 + b" refs/heads/main\n0000"[:-2],
        b"0032ERR the repository is being moved, come back\n\n0000",
        b"<html>we are down for maintenance</html>",
    ],
)
async def test_complaint_11_a_listing_that_is_cut_off_or_odd_is_none(
    tmp_path: Path, api: PlatformApi, body: bytes
) -> None:
    class Odd(LoopbackServer):
        async def respond(self, request: web.Request) -> web.StreamResponse:
            if request.method == "GET":
                return web.Response(status=503)
            return web.Response(body=body, content_type="application/x-git-upload-pack-result")

    async with http_client() as http, Odd() as odd:
        around = surroundings(odd.url, api.url, tmp_path, http)
        await featured(around, branch_gone_at=around.at, state=PreviewState.READY)
        await rounds(around, Branches(**around.telling, heads=around.ctx.source.heads), 9)
        assert await around.is_there()
        if body != b"0000":
            with pytest.raises(PreviewError):
                await around.ctx.source.heads(REPO, 7)


@pytest.mark.parametrize("protocol_v2", [True, False])
async def test_the_branches_of_a_repository(around: Surroundings, host: GitServer, protocol_v2: bool) -> None:
    host.protocol_v2 = protocol_v2
    assert await around.ctx.source.heads(REPO, 7) == {"main", "feature/x"}
    await host.create("acme/empty")
    assert await around.ctx.source.heads("acme/empty", 7) == frozenset()


async def test_the_branches_of_a_folder(
    around: Surroundings, host: GitServer, api: PlatformApi, tmp_path: Path
) -> None:
    async with http_client() as http:
        local = surroundings(f"file://{host.root}", api.url, tmp_path, http)
        assert await local.ctx.source.heads(REPO, None) == {"main", "feature/x"}
