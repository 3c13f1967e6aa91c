"""Time, size, secrets, damage: what a source survives and keeps to itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from provider.demo.git_server import GitServer
from provider.demo.loopback import LoopbackServer
from provider.errors import Code, Permanent, Temporary, Whose
from provider.source import Source
from provider.source.git import Git
from tests.unit.source.helpers import (
    ENCODED,
    INSTALLATION,
    REPO,
    TOKEN,
    MakeSource,
    bare,
    caches,
    failing,
    git,
    processes,
    wait_until_gone,
)


@pytest.mark.parametrize("quick", [True, False])
async def test_a_hang_ends_in_time_and_shows_no_token(
    host: GitServer, make: MakeSource, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not quick:  # where a proxy is set, even to none, git itself asks
        monkeypatch.setenv("all_proxy", "")
    host.hang = True
    began = time.monotonic()
    resolving = asyncio.create_task(failing(make(git_timeout=1)))
    await host.hanging.wait()
    running = processes(host.url)
    assert bool(running) is not quick
    assert not processes(TOKEN)
    assert not processes(ENCODED)
    error = await resolving
    assert isinstance(error, Temporary)
    assert error.reason == "Unreachable"
    assert "1 s" in error.message
    assert 1 <= time.monotonic() - began < 3
    wait_until_gone(list(running))
    assert not processes(host.url)


async def test_a_cancelled_fetch_leaves_no_process(host: GitServer, source: Source, tmp_path: Path) -> None:
    host.hang = True
    resolving = asyncio.create_task(source.resolve(REPO, "main", None, INSTALLATION))
    await host.hanging.wait()
    running = processes(host.url)
    resolving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resolving
    wait_until_gone(list(running))
    assert not processes(host.url)
    host.hang = False
    sha = await host.commit(REPO, "main", {"a": "1"})
    assert await source.resolve(REPO, "main", None, INSTALLATION) == sha


async def test_no_file_holds_the_token(host: GitServer, source: Source, tmp_path: Path) -> None:
    sha = await host.commit(REPO, "main", {"a": "1"})
    await source.resolve(REPO, "main", sha[:7], INSTALLATION)
    await source.export(REPO, sha, tmp_path / "state" / "tree")
    files = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [content for content in files if TOKEN.encode() in content or ENCODED.encode() in content]


async def test_a_server_that_repeats_the_token(host: GitServer, make: MakeSource) -> None:
    class Parrot(LoopbackServer):
        async def respond(self, request: web.Request) -> web.StreamResponse:
            said = request.headers.get("Authorization", "")
            body = f"001e# service=git-upload-pack\n0000{len(said) + 8:04x}ERR {said}".encode()
            return web.Response(body=body, content_type="application/x-git-upload-pack-advertisement")

    async with Parrot() as parrot:
        error = await failing(make(git_base_url=parrot.url))
    assert isinstance(error, Temporary)
    assert "***" in " ".join(error.evidence)


@pytest.mark.parametrize("scheme", ["http", "file"])
async def test_too_large_a_repository(host: GitServer, make: MakeSource, tmp_path: Path, scheme: str) -> None:
    source = make(git_max_bytes=200_000, git_base_url=host.url if scheme == "http" else f"file://{host.root}")
    await host.commit(REPO, "main", {"big": os.urandom(1_000_000)})
    error = await failing(source)
    assert isinstance(error, Permanent)
    assert (error.code, error.reason, error.whose) == (Code.REPO_UNREACHABLE, "TooLarge", Whose.USER)
    assert not list((tmp_path / "state").rglob("tmp_*")), "half a pack was left"
    small = await host.commit(REPO, "small", {"a": "1"}, orphan=True)
    assert await source.resolve(REPO, "small", None, INSTALLATION) == small


async def test_a_small_pack_with_a_large_tree(host: GitServer, make: MakeSource) -> None:
    source = make(git_max_bytes=1_000_000)
    await host.commit(REPO, "main", {f"zeros{number}": bytes(400_000) for number in range(3)})
    error = await failing(source)
    assert isinstance(error, Permanent)
    assert error.reason == "TooLarge"


def _cut_packs(cache: Path) -> None:
    for pack in cache.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:20])


def _remove_packs(cache: Path) -> None:
    for pack in cache.glob("objects/pack/*"):
        pack.unlink()


def _leave_locks(cache: Path) -> None:
    (cache / "shallow.lock").touch()
    for ref in list((cache / "refs/heads/branches").iterdir()):
        ref.with_name(f"{ref.name}.lock").touch()


def _remove_head(cache: Path) -> None:
    (cache / "HEAD").unlink()


def _break_config(cache: Path) -> None:
    (cache / "config").write_text("[core")


@pytest.mark.parametrize("damage", [_cut_packs, _remove_packs, _leave_locks, _remove_head, _break_config])
async def test_a_damaged_cache_heals(
    host: GitServer, make: MakeSource, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    old = await host.commit(REPO, "main", {"a": "1"})
    await make().resolve(REPO, "main", None, INSTALLATION)
    [cache] = caches(tmp_path)
    damage(cache)
    new = await host.commit(REPO, "main", {"b": "2"})
    source = make()
    assert await source.resolve(REPO, "main", None, INSTALLATION) == new
    await source.resolve(REPO, "main", old, INSTALLATION)
    with contextlib.suppress(Temporary):  # where only the old commit's pack was damaged, this finds out
        await source.read(REPO, old, "a", 10)
    await source.resolve(REPO, "main", old, INSTALLATION)
    assert await source.read(REPO, old, "a", 10) == b"1"
    await source.resolve(REPO, "main", new, INSTALLATION)
    await source.export(REPO, new, tmp_path / "tree")
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["a", "b"]


@pytest.mark.parametrize("damage", [_cut_packs, _remove_packs, _remove_head])
async def test_a_damaged_history_heals(
    host: GitServer, make: MakeSource, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    git(bare(host), "config", "uploadpack.allowFilter", "true")
    old = await host.commit(REPO, "main", {"a": "1"})
    new = await host.commit(REPO, "main", {"a": "2"})
    await make().resolve(REPO, "main", new[:8], INSTALLATION)
    [history] = [cache for cache in caches(tmp_path) if cache.suffix == ".history"]
    damage(history)
    source = make()
    with contextlib.suppress(Temporary):
        await source.resolve(REPO, "main", old[:8], INSTALLATION)
    assert await source.resolve(REPO, "main", old[:8], INSTALLATION) == old


async def test_a_state_folder_that_cannot_be_used(make: MakeSource, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    error = await failing(make())
    assert isinstance(error, Temporary)
    assert (error.reason, error.whose) == ("GitUnusable", Whose.PLATFORM)


async def test_a_cache_begins_afresh_before_it_gets_slow(host: GitServer, source: Source, tmp_path: Path) -> None:
    await host.commit(REPO, "main", {"a": "0"})
    await source.resolve(REPO, "main", None, INSTALLATION)
    [cache] = caches(tmp_path)
    for number in range(70):
        (cache / f"objects/pack/pack-{number}.pack").touch()
    sha = await host.commit(REPO, "main", {"a": "1"})
    assert await source.resolve(REPO, "main", None, INSTALLATION) == sha
    assert len(list(cache.glob("objects/pack/*.pack"))) == 1


async def test_caches_that_nobody_uses_are_deleted(host: GitServer, source: Source, tmp_path: Path) -> None:
    await host.create("acme/old")
    await host.commit("acme/old", "main", {"a": "0"})
    await source.resolve("acme/old", "main", None, INSTALLATION)
    [old] = caches(tmp_path)
    os.utime(old / "HEAD", (0, 0))
    sha = await host.commit(REPO, "main", {"a": "1"})
    await source.resolve(REPO, "main", sha, INSTALLATION)
    await source.tidy(3600)
    assert len(caches(tmp_path)) == 1
    assert await source.read(REPO, sha, "a", 10) == b"1"


async def test_a_process_that_does_not_read_all_that_it_is_given_is_no_error(tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    processes = Git(home=tmp_path, timeout=10.0, max_bytes=1 << 20)
    # It has begun to be fed, with more than a pipe holds, when it ends.
    result = await processes.run("-c", "alias.deaf=!read first", "deaf", stdin=b"\n" * (8 << 20))
    gc.collect()
    await asyncio.sleep(0)
    assert (result.code, told) == (0, [])
