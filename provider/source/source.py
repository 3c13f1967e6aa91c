"""Commits and their trees, by way of one bare repository per remote below `state_dir/git`.

A cache holds commits without their history. Below `refs/heads/commits/` it has one ref for each
commit whose whole tree is there: fetches write it (git checks first that nothing is missing), and to
see it takes no process. Short shas need a branch's history; a second repository, without files, has it.

A cache is never repaired: what fails in it for a reason that is not the remote's is deleted and
fetched anew. Nothing is lost, for `resolve` brings back whatever is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import httpx

from provider.errors import Code, InvalidRequest, Permanent, PreviewError
from provider.settings import Settings
from provider.source.cache import Ahead, Cache, Holding
from provider.source.credentials import Credential, Credentials
from provider.source.failures import lost, machine, unusable
from provider.source.fetch import Fetcher
from provider.source.git import Git, GitTimeout, Result, valid_branch
from provider.source.remote import Cause, Remote, cause_of, valid_repo
from provider.source.tree import Entry, Kind, entries, relative

T = TypeVar("T")

FULL_SHA = 40
_SHA = re.compile(r"[0-9a-f]{7,40}")


class Source:
    """Reads repositories below `settings.git_base_url`.

    Args:
        settings: where repositories are, and what limits there are.
        credentials: mints those to clone with.
        http: asks hosts; stays its owner's to close.
        wanted: the paths of small files that are read of most commits: their contents come with the commit.

    `look`, `kind`, `read` and `export` need a commit that `resolve` returned in this process; to
    resolve a full sha that is cached costs nothing, so it is done again before each use.
    """

    def __init__(
        self, *, settings: Settings, credentials: Credentials, http: httpx.AsyncClient, wanted: Sequence[str] = ()
    ) -> None:
        self._builds_here = settings.platform == "container"
        self._base_url = settings.git_base_url
        self._folder = settings.state_dir.absolute() / "git"
        self._max_bytes = settings.git_max_bytes
        self._timeout = settings.git_timeout
        self._git = Git(home=self._folder, timeout=settings.git_timeout, max_bytes=settings.git_max_bytes)
        self._fetcher = Fetcher(
            git=self._git, http=http, timeout=settings.git_timeout, max_bytes=settings.git_max_bytes, wanted=wanted
        )
        self._credentials = credentials
        self._caches: dict[str, Cache] = {}

    async def close(self) -> None:
        """Remove the trees that nobody has asked for."""
        await asyncio.gather(*(cache.ahead.drop() for cache in self._caches.values() if cache.ahead is not None))

    async def resolve(self, repo: str, branch: str, commit_sha: str | None, installation_id: int | None) -> str:
        """The full sha of what is asked for; afterwards its whole tree is in the cache.

        Args:
            repo: `owner/repo`.
            branch: its name, without `refs/heads/`.
            commit_sha: full, or at least 7 characters that are unique on the branch; None: the branch's head.
            installation_id: whose credentials to clone with; None: none.

        Raises:
            InvalidRequest: a name or sha that cannot be one.
            Permanent: `branch_not_found`, `commit_not_found`, or `repo_unreachable` with reason
                RepositoryNotFound, CredentialsRefused, RepositoryMoved or TooLarge.
            Temporary: `token_mint_failed`, or `repo_unreachable` with reason Unreachable, DiskFull,
                GitUnusable or CacheLost.
        """
        sha = _checked(repo, branch, commit_sha)
        if sha is not None and self._cache(repo).has(sha):
            return sha
        remote = Remote(self._base_url, repo, branch)
        return await self._with_credential(remote, installation_id, lambda one: self._resolve(one, sha))

    async def is_on_branch(self, repo: str, branch: str, sha: str, installation_id: int | None) -> bool:
        """Whether the branch's history has the full sha: a commit is found by its sha whatever branch is named.

        Raises:
            Permanent, Temporary: as `resolve` does.
        """
        _checked(repo, branch, sha)
        history = self._cache(repo, ".history")

        async def ask(remote: Remote) -> bool:
            async with history.lock:
                return await self._fetcher.lengthen(remote, history, sha) == sha

        try:
            return await self._with_credential(Remote(self._base_url, repo, branch), installation_id, ask)
        except Permanent as error:
            if error.code is Code.COMMIT_NOT_FOUND:
                return False
            raise

    async def heads(self, repo: str, installation_id: int | None) -> frozenset[str]:
        """The names of every branch of a repository, as its host says now; empty for one without commits.

        Raises:
            Permanent, Temporary: as `resolve` does; whatever is no whole answer is an error.
        """
        if not valid_repo(repo):
            raise _invalid("repo_full_name", repo, "owner/repo")
        return await self._with_credential(Remote(self._base_url, repo, ""), installation_id, self._fetcher.heads)

    async def credential(self, installation_id: int | None) -> Credential | None:
        """A credential for somebody else's clone, as a build in the cluster makes it; None where none is needed."""
        return None if installation_id is None else await self._credentials.mint(installation_id)

    async def look(self, repo: str, sha: str, paths: Sequence[str]) -> dict[str, Entry]:
        """What stands at each of `paths` (at most one git process for all); those with nothing are left out.

        Symlinks are never followed, and a submodule is nothing: its files are not in the repository.
        """
        wanted = {path: clean for path in paths if (clean := relative(path)) is not None}
        found = {".": Entry("dir", sha, 0)}
        holding = self._holding(repo, sha)
        if holding is not None:
            found |= holding.entries
        elif names := sorted(set(wanted.values()) - {"."}):
            arguments = ("ls-tree", "-z", "-l", "-t", "--full-tree", sha, "--", *names)
            result = await self._local(repo, sha, *arguments)
            try:
                found |= entries(result.out.decode(errors="surrogateescape"))
            except ValueError:  # git calls the size of what is missing BAD
                await self._cache(repo).discard()
                raise lost(repo, sha, "is damaged in the cache") from None
        return {path: found[clean] for path, clean in wanted.items() if clean in found}

    async def kind(self, repo: str, sha: str, path: str) -> Kind | None:
        """Whether `path` is a file, a folder or a symlink at the commit; None if there is nothing."""
        entry = (await self.look(repo, sha, [path])).get(path)
        return entry.kind if entry else None

    async def read(self, repo: str, sha: str, path: str, max_bytes: int) -> bytes | None:
        """The content of the file at `path`, or None if there is no file.

        Raises:
            Permanent: `invalid_preview_spec`: the file is larger than `max_bytes`, or a symlink.
        """
        entry = (await self.look(repo, sha, [path])).get(path)
        if entry is None or entry.kind == "dir":
            return None
        if entry.kind == "symlink":
            raise _unreadable("Symlink", path, f"{path} is a symlink at {sha[:12]}; symlinks are not followed")
        if entry.size > max_bytes:
            raise _unreadable(
                "TooLarge", path, f"{path} has {entry.size} bytes at {sha[:12]}; at most {max_bytes} are read"
            )
        holding = self._holding(repo, sha)
        if holding is not None and entry.oid in holding.contents:
            return holding.contents[entry.oid]
        return (await self._local(repo, sha, "cat-file", "blob", entry.oid, max_out=max_bytes)).out

    async def export(self, repo: str, sha: str, into: Path) -> None:
        """Write the commit's tree into the empty folder `into`, as a clone would: modes, symlinks, line ends.

        Filters (LFS among them) are not run, submodules are empty folders, `export-ignore` means nothing.
        """
        tree, cache = await asyncio.to_thread(_made_empty, into), self._cache(repo)
        ahead = cache.ahead
        if ahead is not None and ahead.sha == sha:
            cache.ahead = None
            try:
                if await ahead.moved(tree):
                    return
            finally:
                await ahead.drop()  # of one that was moved nothing is left
        await self._write_tree(repo, sha, tree)

    async def _write_tree(self, repo: str, sha: str, tree: Path) -> None:
        # An index of its own lets several exports run at once; the cache itself has none.
        with tempfile.TemporaryDirectory(prefix="index-", dir=self._folder) as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            await self._local(repo, sha, f"--work-tree={tree}", "read-tree", "--reset", "-u", sha, env=index)

    async def tidy(self, idle_seconds: float) -> None:
        """Delete the caches into which nothing was fetched for that long; to be called now and then."""
        moment = time.time() - idle_seconds
        for path in await asyncio.to_thread(lambda: list(self._folder.glob("*"))):
            cache = self._cached(path.name)
            async with cache.lock:
                if cache.idle_since(moment):
                    await cache.discard()

    async def _with_credential(
        self, remote: Remote, installation_id: int | None, ask: Callable[[Remote], Awaitable[T]]
    ) -> T:
        """What `ask` gets with the installation's credentials; with new ones, where kept ones are refused."""
        if installation_id is None:
            return await ask(remote)
        began = time.monotonic()
        credential = await self._credentials.mint(installation_id)
        try:
            return await ask(replace(remote, credential=credential))
        except Permanent as error:
            if error.reason not in ("CredentialsRefused", "RepositoryNotFound"):
                raise
            self._credentials.forget(installation_id, credential)
            if credential.minted_at >= began:
                raise
        # A kept credential may have been revoked, or be older than our access to the repository.
        credential = await self._credentials.mint(installation_id)
        return await ask(replace(remote, credential=credential))

    async def _resolve(self, remote: Remote, sha: str | None) -> str:
        if sha is not None and len(sha) < FULL_SHA:
            history = self._cache(remote.repo, ".history")
            async with history.lock:
                sha = await self._fetcher.lengthen(remote, history, sha)
        cache = self._cache(remote.repo)
        async with cache.lock:
            if sha is not None and cache.has(sha):
                return sha
            sha = await self._fetcher.commit(remote, cache, sha)
            if self._builds_here:
                await self._begin_ahead(remote.repo, sha, cache)
            return sha

    async def _begin_ahead(self, repo: str, sha: str, cache: Cache) -> None:
        """Begin to write a commit's tree out before that is asked for; of each repository there is one at most."""
        before, cache.ahead = cache.ahead, None  # at once: whoever asks for it meanwhile must not get half of it
        if before is not None:
            await before.drop()
        folder = self._folder / f"tree-{uuid.uuid4().hex}"
        cache.ahead = Ahead(sha, folder, asyncio.create_task(self._write_ahead(repo, sha, folder)))

    async def _write_ahead(self, repo: str, sha: str, folder: Path) -> bool:
        """Whether the tree is there; if not, whoever asks for it is told why."""
        try:
            await self._write_tree(repo, sha, await asyncio.to_thread(_made_empty, folder))
        except (PreviewError, OSError):
            return False
        return True

    async def _local(
        self, repo: str, sha: str, *arguments: str, env: Mapping[str, str] | None = None, max_out: int = 1 << 20
    ) -> Result:
        """A git process that only reads the cache; a cache that cannot be read is deleted."""
        cache = self._cache(repo)
        if not cache.has(sha):
            raise lost(repo, sha, "is not in the cache")
        try:
            result = await self._git.run(f"--git-dir={cache.path}", *arguments, env=env, max_out=max_out)
        except GitTimeout:
            raise lost(repo, sha, f"could not be read within {self._timeout:g} s") from None
        except OSError as error:
            raise machine(error) from None
        if result.code == 0 or result.truncated:
            return result
        if "invalid path" in result.err:
            raise unusable("UnusableTree", f"{repo} at {sha[:12]} holds paths that git refuses", result.complaints)
        if cause_of(result) is not Cause.DISK_FULL:
            async with cache.lock:
                await cache.discard()
        raise lost(repo, sha, "could not be read from the cache", result.complaints)

    def _holding(self, repo: str, sha: str) -> Holding | None:
        """What the commit holds, if it is the one that was fetched last."""
        holding = self._cache(repo).holding
        return holding if holding is not None and holding.commit == sha else None

    def _cache(self, repo: str, suffix: str = "") -> Cache:
        """Named by a hash: no name can lead out of the folder, whatever the file system thinks of case."""
        return self._cached(hashlib.sha256(f"{self._base_url}/{repo}".encode()).hexdigest()[:32] + suffix)

    def _cached(self, name: str) -> Cache:
        if name not in self._caches:
            # Twice the largest pack: one full fetch, and room for what changes later.
            self._caches[name] = Cache(self._folder / name, 2 * self._max_bytes)
        return self._caches[name]


def _checked(repo: str, branch: str, commit_sha: str | None) -> str | None:
    """The sha in lower case. What a request may hold was checked before; nothing else must reach git."""
    if not valid_repo(repo):
        raise _invalid("repo_full_name", repo, "owner/repo")
    if not valid_branch(branch):
        raise _invalid("branch", branch, "a branch name as git allows it")
    sha = commit_sha.lower() if commit_sha is not None else None
    if sha is not None and not _SHA.fullmatch(sha):
        raise _invalid("commit_sha", sha, "7 to 40 hexadecimal digits")
    return sha


def _made_empty(folder: Path) -> Path:
    """The folder's absolute path, now that it exists and holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    if next(folder.iterdir(), None) is not None:
        raise ValueError(f"{folder} is not empty")
    return folder.absolute()


def _invalid(field: str, value: str, allowed: str) -> InvalidRequest:
    return InvalidRequest(
        Code.INVALID_REQUEST,
        f"{field}: {value[:200]!r} is not {allowed}",
        reason="InvalidField",
        hint=f"correct {field} in the request",
    )


def _unreadable(reason: str, path: str, message: str) -> Permanent:
    return Permanent(
        Code.INVALID_PREVIEW_SPEC, message, reason=reason, hint=f"commit {path} as a plain file, no larger than that"
    )
