"""What a branch or a sha is resolved to, and what that asks of the host."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from aiohttp import web

from provider.demo.git_server import GitServer
from provider.demo.loopback import LoopbackServer
from provider.demo.platform_api import PlatformApi
from provider.errors import Code
from provider.source import Source
from tests.unit.source.helpers import INSTALLATION, NOWHERE, REPO, MakeSource, bare, caches, commit_body, failing, git


async def test_a_branch_is_its_head(host: GitServer, source: Source) -> None:
    first = await host.commit(REPO, "main", {"a": "1"})
    assert await source.resolve(REPO, "main", None, INSTALLATION) == first
    second = await host.commit(REPO, "main", {"a": "2"})
    assert await source.resolve(REPO, "main", None, INSTALLATION) == second
    assert await source.read(REPO, first, "a", 10) == b"1"
    assert await source.read(REPO, second, "a", 10) == b"2"


async def test_a_cached_full_sha_needs_no_network(
    host: GitServer, api: PlatformApi, source: Source, make: MakeSource
) -> None:
    sha = await host.commit(REPO, "main", {"a": "1"})
    await source.resolve(REPO, "main", None, INSTALLATION)
    host.requests = api.requests = 0
    for again in (source, make(git_timeout=1)):
        assert await again.resolve(REPO, "main", sha.upper(), INSTALLATION) == sha
    assert (host.requests, api.requests) == (0, 0)


async def test_a_commit_takes_two_requests_and_only_what_changed_comes(
    host: GitServer, source: Source, tmp_path: Path
) -> None:
    large = os.urandom(300_000)
    await host.commit(REPO, "main", {"a": "1", "large": large})
    await source.resolve(REPO, "main", None, INSTALLATION)
    assert host.requests == 2
    changed = await host.commit(REPO, "main", {"a": "2"})
    assert await source.resolve(REPO, "main", changed, INSTALLATION) == changed
    assert host.requests == 4
    (cache,) = caches(tmp_path)
    packs = sorted(path.stat().st_size for path in cache.glob("objects/pack/*.pack"))
    assert len(packs) == 2, "no git fetch was needed"
    assert git(cache, "fsck", "--connectivity-only", "--no-dangling") == ""
    await source.export(REPO, changed, tmp_path / "tree")
    assert ((tmp_path / "tree" / "a").read_text(), (tmp_path / "tree" / "large").read_bytes()) == ("2", large)


@pytest.mark.parametrize("said", ["../../../outside", "", "1" * 39])
async def test_a_host_whose_sha_is_none_is_left_to_git(make: MakeSource, tmp_path: Path, said: str) -> None:
    class Liar(LoopbackServer):
        async def respond(self, request: web.Request) -> web.StreamResponse:
            line = f"{said} refs/heads/main\n".encode()
            body = f"{len(line) + 4:04x}".encode() + line + b"0000"
            return web.Response(body=body, content_type="application/x-git-upload-pack-result")

    async with Liar() as liar:
        error = await failing(make(git_base_url=liar.url))
    assert error.code is Code.REPO_UNREACHABLE
    assert not (tmp_path.parent / "outside").exists()
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("outside")))


@pytest.mark.parametrize("protocol_v2", [True, False])
async def test_an_older_full_sha(host: GitServer, source: Source, protocol_v2: bool) -> None:
    host.protocol_v2 = protocol_v2
    old = await host.commit(REPO, "main", {"a": "1"})
    await host.commit(REPO, "main", {"a": "2"})
    assert await source.resolve(REPO, "main", old, INSTALLATION) == old
    assert await source.read(REPO, old, "a", 10) == b"1"
    newest = await host.commit(REPO, "main", {"a": "3"})
    assert await source.resolve(REPO, "main", None, INSTALLATION) == newest


@pytest.mark.parametrize("filters", ["true", "false"])
async def test_a_short_sha(host: GitServer, source: Source, filters: str) -> None:
    git(bare(host), "config", "uploadpack.allowFilter", filters)
    old = await host.commit(REPO, "main", {"a": "1"})
    new = await host.commit(REPO, "main", {"a": "2"})
    elsewhere = await host.commit(REPO, "other", {"b": "3"})
    assert await source.resolve(REPO, "main", old[:7], INSTALLATION) == old
    assert await source.resolve(REPO, "main", new[:12].upper(), INSTALLATION) == new
    assert await source.read(REPO, old, "a", 10) == b"1"
    assert await source.resolve(REPO, "other", elsewhere[:7], INSTALLATION) == elsewhere
    for unknown in (elsewhere[:7], "0000000"):
        error = await failing(source, sha=unknown)
        assert (error.code, error.reason) == (Code.COMMIT_NOT_FOUND, "Unknown")


async def test_which_branch_a_commit_is_on(host: GitServer, source: Source) -> None:
    old = await host.commit(REPO, "main", {"a": "1"})
    await host.commit(REPO, "main", {"a": "2"})
    elsewhere = await host.commit(REPO, "other", {"b": "3"})
    assert await source.resolve(REPO, "main", elsewhere, INSTALLATION) == elsewhere, "a full sha is found anywhere"
    found = [await source.is_on_branch(REPO, "main", sha, INSTALLATION) for sha in (old, elsewhere, "0" * 40)]
    assert found == [True, False, False]


async def test_an_ambiguous_short_sha(host: GitServer, source: Source) -> None:
    one, other = _two_commits_that_begin_alike()
    repository = bare(host)
    tree = git(repository, "hash-object", "-t", "tree", "-w", "--stdin")
    parents = [git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=body) for body in (one, other)]
    assert parents[0][:7] == parents[1][:7]
    merge = commit_body(0).replace(b"\nauthor", b"".join(f"\nparent {sha}".encode() for sha in parents) + b"\nauthor")
    head = git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=merge)
    git(repository, "update-ref", "refs/heads/main", head)
    error = await failing(source, sha=parents[0][:7])
    assert (error.code, error.reason) == (Code.COMMIT_NOT_FOUND, "Ambiguous")
    length = next(n for n in range(8, 41) if parents[0][:n] != parents[1][:n])
    assert await source.resolve(REPO, "main", parents[0][:length], INSTALLATION) == parents[0]
    assert tree


def _two_commits_that_begin_alike() -> tuple[bytes, bytes]:
    """By the birthday paradox some 20 000 commits are enough for seven equal digits."""
    seen: dict[str, bytes] = {}
    for number in range(1, 1 << 20):
        body = commit_body(number)
        start = hashlib.sha1(b"commit %d\0" % len(body) + body).hexdigest()[:7]
        if start in seen:
            return seen[start], body
        seen[start] = body
    raise AssertionError("no two alike")


async def test_a_force_push(host: GitServer, source: Source) -> None:
    old = await host.commit(REPO, "main", {"a": "1"})
    await source.resolve(REPO, "main", None, INSTALLATION)
    new = await host.commit(REPO, "main", {"b": "2"}, orphan=True)
    assert await source.resolve(REPO, "main", None, INSTALLATION) == new
    assert await source.kind(REPO, new, "a") is None
    assert await source.resolve(REPO, "main", old, INSTALLATION) == old


async def test_a_branch_becomes_a_folder_of_branches(host: GitServer, source: Source) -> None:
    await host.commit(REPO, "feature", {"a": "1"})
    await source.resolve(REPO, "feature", None, INSTALLATION)
    git(bare(host), "update-ref", "-d", "refs/heads/feature")
    below = await host.commit(REPO, "feature/käse", {"a": "2"})
    assert await source.resolve(REPO, "feature/käse", None, INSTALLATION) == below


async def test_many_at_once(host: GitServer, source: Source) -> None:
    shas = [await host.commit(REPO, f"b{number}", {"a": str(number)}) for number in range(4)]
    wanted = [(f"b{n}", sha) for n in range(4) for sha in (None, shas[n], shas[n][:9])]
    got = await asyncio.gather(*(source.resolve(REPO, branch, sha, INSTALLATION) for branch, sha in wanted))
    assert got == [shas[number] for number in range(4) for _ in range(3)]


async def test_a_file_url_and_no_credentials(host: GitServer, api: PlatformApi, make: MakeSource) -> None:
    source = make(git_base_url=f"file://{host.root}")
    old = await host.commit(REPO, "main", {"a": "1"})
    new = await host.commit(REPO, "main", {"a": "2"})
    assert await source.resolve(REPO, "main", None, None) == new
    assert await source.resolve(REPO, "main", old, None) == old
    assert await source.resolve(REPO, "main", old[:8], None) == old
    assert (await failing(source, repo="acme/none")).reason == "RepositoryNotFound"
    assert host.requests == 0


async def test_a_dumb_server(host: GitServer, make: MakeSource) -> None:
    class Files(LoopbackServer):
        async def respond(self, request: web.Request) -> web.StreamResponse:
            path = host.root / request.path.lstrip("/")
            return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    old = await host.commit(REPO, "main", {"a": "1"})
    new = await host.commit(REPO, "main", {"a": "2"})
    git(bare(host), "update-server-info")
    async with Files() as dumb:
        source = make(git_base_url=dumb.url)
        assert await source.resolve(REPO, "main", old, None) == old
        assert await source.resolve(REPO, "main", None, None) == new
        assert await source.read(REPO, old, "a", 10) == b"1"
        assert (await failing(source, sha=NOWHERE)).code is Code.COMMIT_NOT_FOUND
        assert (await failing(source, branch="none")).code is Code.BRANCH_NOT_FOUND
        assert (await failing(source, repo="acme/none")).reason == "RepositoryNotFound"
