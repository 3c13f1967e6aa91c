"""Real git against real servers: what is read, and every failure by its real cause."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import select
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.demo.git_server import Content, File, GitServer
from provider.demo.loopback import LoopbackServer
from provider.demo.platform_api import PlatformApi
from provider.errors import Code, InvalidRequest, Permanent, PreviewError, Temporary, Whose
from provider.http_client import http_client
from provider.models import Secret
from provider.settings import Settings
from provider.source import Credentials, Source, valid_branch, valid_repo
from provider.source.git import Git, basic_authorization

REPO = "acme/shop"
TOKEN = "ghs_AVeryRecognisableToken"
ENCODED = basic_authorization("x-access-token", Secret(TOKEN)).removeprefix("Basic ")
INSTALLATION = 7
NOWHERE = "1" * 40

MakeSource = Callable[..., Source]


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


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", f"--git-dir={repository}", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout.decode().strip()


def bare(host: GitServer, repo: str = REPO) -> Path:
    return host.root / f"{repo}.git"


def caches(tmp_path: Path) -> list[Path]:
    return [path.parent for path in (tmp_path / "state" / "git").glob("*/HEAD")]


def processes(word: str) -> dict[int, str]:
    """Command lines that contain `word`, by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found[int(path.parent.name)] = line
    return found


def wait_until_gone(pids: list[int]) -> None:
    """A killed process needs a moment; a pidfd says when it is over."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], 5)[0], f"process {pid} lives on"
        finally:
            os.close(descriptor)


async def failing(source: Source, branch: str = "main", sha: str | None = None, repo: str = REPO) -> PreviewError:
    """The error of resolving with the installation's credentials."""
    with pytest.raises(PreviewError) as caught:
        await source.resolve(repo, branch, sha, INSTALLATION)
    shown = repr(vars(caught.value)) + str(caught.value)
    assert TOKEN not in shown
    assert ENCODED not in shown
    return caught.value


# ------------------------------------------------------------------------------ resolving


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
    merge = _commit_body(0).replace(b"\nauthor", b"".join(f"\nparent {sha}".encode() for sha in parents) + b"\nauthor")
    head = git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=merge)
    git(repository, "update-ref", "refs/heads/main", head)
    error = await failing(source, sha=parents[0][:7])
    assert (error.code, error.reason) == (Code.COMMIT_NOT_FOUND, "Ambiguous")
    length = next(n for n in range(8, 41) if parents[0][:n] != parents[1][:n])
    assert await source.resolve(REPO, "main", parents[0][:length], INSTALLATION) == parents[0]
    assert tree


def _commit_body(number: int) -> bytes:
    empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    who = "A <a@example.org> 1704067200 +0000"
    return f"tree {empty_tree}\nauthor {who}\ncommitter {who}\n\n{number}\n".encode()


def _two_commits_that_begin_alike() -> tuple[bytes, bytes]:
    """By the birthday paradox some 20 000 commits are enough for seven equal digits."""
    seen: dict[str, bytes] = {}
    for number in range(1, 1 << 20):
        body = _commit_body(number)
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


# ------------------------------------------------------------------------- what can be wrong


async def test_no_such_branch(host: GitServer, source: Source) -> None:
    sha = await host.commit(REPO, "main", {"a": "1"})
    for wanted in (None, sha, sha[:7]):
        error = await failing(source, branch="gone", sha=wanted)
        assert (error.code, error.whose) == (Code.BRANCH_NOT_FOUND, Whose.USER)
        assert "'gone'" in error.message


@pytest.mark.parametrize("wanted", [None, NOWHERE, NOWHERE[:7]])
async def test_an_empty_repository_has_no_branch(source: Source, wanted: str | None) -> None:
    assert (await failing(source, sha=wanted)).code is Code.BRANCH_NOT_FOUND


@pytest.mark.parametrize("protocol_v2", [True, False])
async def test_no_such_commit(host: GitServer, source: Source, protocol_v2: bool) -> None:
    host.protocol_v2 = protocol_v2
    sha = await host.commit(REPO, "main", {"a": "1"})
    tree = git(bare(host), "rev-parse", f"{sha}^{{tree}}")
    for wanted in (NOWHERE, tree):
        error = await failing(source, sha=wanted)
        assert (error.code, error.reason, error.whose) == (Code.COMMIT_NOT_FOUND, "Unknown", Whose.USER)
        assert wanted in error.message


async def test_no_such_repository(source: Source) -> None:
    error = await failing(source, repo="acme/none")
    assert isinstance(error, Permanent)
    assert (error.code, error.reason, error.whose) == (Code.REPO_UNREACHABLE, "RepositoryNotFound", Whose.USER)
    assert not error.retryable


async def test_refused_credentials(host: GitServer, api: PlatformApi, source: Source) -> None:
    host.token = Secret("another")
    error = await failing(source)
    assert isinstance(error, Permanent)
    assert (error.code, error.reason, error.whose) == (Code.REPO_UNREACHABLE, "CredentialsRefused", Whose.USER)
    assert not error.retryable
    assert api.requests == 1
    await failing(source)
    assert api.requests == 2, "a refused credential must not be kept"


async def test_a_private_repository_without_an_installation(source: Source) -> None:
    with pytest.raises(Permanent) as caught:
        await source.resolve(REPO, "main", None, None)
    assert caught.value.reason == "CredentialsRefused"
    assert "installation_id" in (caught.value.hint or "")


async def test_a_revoked_credential_is_minted_anew(host: GitServer, api: PlatformApi, source: Source) -> None:
    await host.commit(REPO, "main", {"a": "1"})
    await source.resolve(REPO, "main", None, INSTALLATION)
    host.token = api.token = Secret("a-newer-token")
    await host.commit(REPO, "main", {"a": "2"})
    await source.resolve(REPO, "main", None, INSTALLATION)
    assert api.requests == 2


@pytest.mark.parametrize("status", [400, 429, 500, 502, 503])
async def test_an_outage_of_the_host_keeps_the_cache(host: GitServer, source: Source, status: int) -> None:
    sha = await host.commit(REPO, "main", {"a": "1"})
    await source.resolve(REPO, "main", None, INSTALLATION)
    host.fail_with = status
    error = await failing(source)
    assert isinstance(error, Temporary)
    assert (error.code, error.reason, error.whose) == (Code.REPO_UNREACHABLE, "Unreachable", Whose.PLATFORM)
    assert str(status) in " ".join(error.evidence)
    assert await source.resolve(REPO, "main", sha, INSTALLATION) == sha
    assert await source.read(REPO, sha, "a", 10) == b"1"


@pytest.mark.parametrize("base", ["http://127.0.0.1:1", "https://host.invalid"])
async def test_nobody_answers(make: MakeSource, base: str) -> None:
    error = await failing(make(git_base_url=base))
    assert isinstance(error, Temporary)
    assert error.reason == "Unreachable"


async def test_a_redirect_gets_no_credentials(host: GitServer, make: MakeSource) -> None:
    class Away(LoopbackServer):
        async def respond(self, request: web.Request) -> web.StreamResponse:
            raise web.HTTPMovedPermanently(host.url + request.path_qs)

    await host.commit(REPO, "main", {"a": "1"})
    async with Away() as away:
        error = await failing(make(git_base_url=away.url))
    assert (error.reason, error.whose) == ("RepositoryMoved", Whose.USER)
    assert host.requests == 0


@pytest.mark.parametrize(
    ("repo", "branch", "sha"),
    [
        (REPO, "--upload-pack=touch pwned", None),
        (REPO, "-o", None),
        (REPO, "main:refs/heads/x", None),
        (REPO, "+main", "--all"),
        (REPO, "a b", None),
        (REPO, "a\nrefs/heads/*:refs/heads/*", None),
        (REPO, "refs/../x", None),
        (REPO, "", None),
        ("--upload-pack=touch pwned", "main", None),
        ("-x/y", "main", None),
        ("../../etc/passwd", "main", None),
        ("a/..", "main", None),
        ("a/b\n", "main", None),
        ("a/b?c", "main", None),
        ("user@evil/b", "main", None),
        ("a/b/c", "main", None),
        (REPO, "main", "--output=x"),
        (REPO, "main", "HEAD"),
        (REPO, "main", "abc"),
        (REPO, "main", "1" * 41),
        (REPO, "main", "abcdef1\n"),
    ],
)
async def test_nothing_but_names_reaches_git(
    host: GitServer, source: Source, repo: str, branch: str, sha: str | None
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await source.resolve(repo, branch, sha, INSTALLATION)
    assert caught.value.code is Code.INVALID_REQUEST
    assert host.requests == 0


_PIECES = st.sampled_from(["a", "Z", ".", "..", "/", "-", "@", "{", "@{", ".lock", "~", "^", ":", "?", "*", "[", "\\"])
_NAMES = st.lists(_PIECES | st.sampled_from([" ", "\t", "\x7f", "é", "+", "#", "HEAD", "}"]), max_size=6).map("".join)


@settings(max_examples=80)
@given(_NAMES)
def test_branch_names_are_judged_as_git_does(name: str) -> None:
    asked = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
    assert valid_branch(name) == (asked.returncode == 0 and not name.startswith("-"))


def test_names_that_cannot_be_encoded_or_are_endless() -> None:
    assert not valid_branch("\udc80")
    assert not valid_branch("a" * 300)
    assert valid_branch("a" * 200)
    assert valid_repo("acme/my.shop_1")
    assert not valid_repo("acme")


# ------------------------------------------------------------------ time, size, secrets, damage


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


# -------------------------------------------------------------------------------- the tree

LINK = File("target", "120000")


async def test_what_stands_at_a_path(host: GitServer, source: Source) -> None:
    sha = await host.commit(
        REPO,
        "main",
        {"Dockerfile": "FROM scratch", "app/run": File("x", "100755"), "link": LINK, "dir": File("app", "120000")},
    )
    await source.resolve(REPO, "main", sha, INSTALLATION)
    expected = {
        "Dockerfile": "file", "./Dockerfile": "file", "app": "dir", "app/": "dir", "app/run": "file", ".": "dir",
        "": "dir", "link": "symlink", "dir": "symlink", "dir/run": None, "none": None, "app/none": None,
        "/Dockerfile": None, "../x": None, "app/../Dockerfile": None, "a\0b": None, "*": None, "--help": None,
        ":(glob)**": None,
    }  # fmt: skip
    looked = await source.look(REPO, sha, list(expected))
    assert {path: looked[path].kind if path in looked else None for path in expected} == expected
    assert [await source.kind(REPO, sha, path) for path in ("app", "none")] == ["dir", None]


async def test_reading_a_file(host: GitServer, source: Source) -> None:
    content = bytes(range(256)) * 10
    sha = await host.commit(REPO, "main", {"x/y": content, "ünï ➜\tcode": "z", "empty": "", "link": LINK})
    await source.resolve(REPO, "main", sha, INSTALLATION)
    assert await source.read(REPO, sha, "x/y", len(content)) == content
    assert await source.read(REPO, sha, "./ünï ➜\tcode", 5) == b"z"
    assert await source.read(REPO, sha, "empty", 5) == b""
    assert await source.read(REPO, sha, "none", 5) is None
    assert await source.read(REPO, sha, "x", 5) is None
    for path, reason in (("x/y", "TooLarge"), ("link", "Symlink")):
        with pytest.raises(Permanent) as caught:
            await source.read(REPO, sha, path, len(content) - 1)
        assert (caught.value.code, caught.value.reason) == (Code.INVALID_PREVIEW_SPEC, reason)


async def test_a_commit_that_was_not_resolved(source: Source) -> None:
    with pytest.raises(Temporary) as caught:
        await source.read(REPO, NOWHERE, "a", 10)
    assert caught.value.reason == "CacheLost"


async def test_an_exported_tree_is_what_a_clone_would_be(host: GitServer, source: Source, tmp_path: Path) -> None:
    attributes = "* export-ignore\n*.bin filter=lfs diff=lfs merge=lfs -text\n*.sub export-subst\n*.bat text eol=crlf\n"
    files: dict[str, Content] = {
        ".gitattributes": attributes,
        "a b/ü": "text\n",
        "run.sh": File("#!/bin/sh\n", "100755"),
        "link": LINK,
        "dangling": File("/no/such/place", "120000"),
        "data.bin": "version https://git-lfs.github.com/spec/v1\n",
        "v.sub": "$Format:%H$",
        "x.bat": "echo\n",
        "module": File(NOWHERE, "100644"),
    }
    sha = await host.commit(REPO, "main", files)
    await source.resolve(REPO, "main", sha, INSTALLATION)
    await asyncio.gather(*(source.export(REPO, sha, tmp_path / "out" / str(n)) for n in range(4)))
    for tree in (tmp_path / "out").iterdir():  # one of them had been written ahead
        assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir()) == sorted(files)
    tree = tmp_path / "out" / "0"
    assert (tree / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tree / "a b/ü").stat().st_mode & 0o777 == 0o644
    assert (tree / "link").readlink() == Path("target")
    assert (tree / "dangling").readlink() == Path("/no/such/place")
    assert (tree / "v.sub").read_text() == "$Format:%H$"
    assert (tree / "x.bat").read_bytes() == b"echo\r\n"
    with pytest.raises(ValueError, match="not empty"):
        await source.export(REPO, sha, tree)
    assert not list((tmp_path / "state" / "git").glob("index-*"))


async def test_of_a_repository_the_tree_fetched_last_is_written_ahead(
    host: GitServer, source: Source, tmp_path: Path
) -> None:
    def ahead() -> list[Path]:
        return list((tmp_path / "state" / "git").glob("tree-*"))

    shas = []
    for content in "ab":
        shas.append(await host.commit(REPO, "main", {"file": content}))
        await source.resolve(REPO, "main", shas[-1], INSTALLATION)
    for sha, content in zip(shas, "ab", strict=True):
        await source.export(REPO, sha, tmp_path / content)
        assert (tmp_path / content / "file").read_text() == content
    assert ahead() == []
    sha = await host.commit(REPO, "main", {"file": "c"})
    await source.resolve(REPO, "main", sha, INSTALLATION)
    async with asyncio.timeout(10):
        while not any((tree / "file").exists() for tree in ahead()):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)
    await source.close()
    assert ahead() == []


async def test_commits_of_one_repository_at_once_each_get_the_whole_of_their_own_tree(
    host: GitServer, source: Source, tmp_path: Path
) -> None:
    """One that was written ahead goes to who asks for it, or is dropped for the next one: never both."""
    many = {f"folder/{number}": "x" * 100 for number in range(200)}
    shas = [await host.commit(REPO, "main", {**many, "file": str(number)}) for number in range(6)]

    async def brought(number: int) -> None:
        await source.resolve(REPO, "main", shas[number], INSTALLATION)
        await source.export(REPO, shas[number], tmp_path / "out" / str(number))

    await asyncio.gather(*map(brought, range(6)))
    for number in range(6):
        tree = tmp_path / "out" / str(number)
        assert (tree / "file").read_text() == str(number)
        assert len(list((tree / "folder").iterdir())) == len(many)


async def test_a_tree_that_would_write_into_dot_git(host: GitServer, source: Source, tmp_path: Path) -> None:
    repository = bare(host)
    blob = bytes.fromhex(git(repository, "hash-object", "-w", "--stdin", stdin=b"x"))
    inner = bytes.fromhex(
        git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=b"100644 config\0" + blob)
    )
    tree = git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=b"40000 .git\0" + inner)
    commit = _commit_body(1).replace(b"4b825dc642cb6eb9a060e54bf8d69288fbee4904", tree.encode())
    sha = git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=commit)
    git(repository, "update-ref", "refs/heads/main", sha)
    await source.resolve(REPO, "main", sha, INSTALLATION)
    with pytest.raises(Permanent) as caught:
        await source.export(REPO, sha, tmp_path / "tree")
    assert caught.value.reason == "UnusableTree"
    assert not list((tmp_path / "tree").rglob("config"))


async def test_pushing_to_the_demo_server(tmp_path: Path) -> None:
    async with GitServer(tmp_path / "host", username="u", token=Secret("t"), push=True) as host:
        await host.create(REPO)
        await host.commit(REPO, "main", {"a": "1"})
        work = tmp_path / "work"
        url = host.url.replace("http://", "http://u:t@") + f"/{REPO}.git"
        script = (
            f"git clone -q {url} {work} && cd {work} && head -c 3000000 /dev/urandom > big && git add . && "
            "git -c user.name=a -c user.email=a@b commit -qm big && git push -q origin HEAD:pushed"
        )
        process = await asyncio.create_subprocess_shell(script)
        assert await process.wait() == 0
        assert git(bare(host), "rev-parse", "refs/heads/pushed") == git(work / ".git", "rev-parse", "HEAD")


async def test_a_process_that_does_not_read_all_that_it_is_given_is_no_error(tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    processes = Git(home=tmp_path, timeout=10.0, max_bytes=1 << 20)
    # It has begun to be fed, with more than a pipe holds, when it ends.
    result = await processes.run("-c", "alias.deaf=!read first", "deaf", stdin=b"\n" * (8 << 20))
    gc.collect()
    await asyncio.sleep(0)
    assert (result.code, told) == (0, [])
