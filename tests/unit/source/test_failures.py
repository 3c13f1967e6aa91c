"""Every failure by its real cause, and names that never reach git."""

from __future__ import annotations

import subprocess

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.demo.git_server import GitServer
from provider.demo.loopback import LoopbackServer
from provider.demo.platform_api import PlatformApi
from provider.errors import Code, InvalidRequest, Permanent, Temporary, Whose
from provider.models import Secret
from provider.source import Source, valid_branch, valid_repo
from tests.unit.source.helpers import INSTALLATION, NOWHERE, REPO, MakeSource, bare, failing, git


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
