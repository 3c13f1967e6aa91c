"""Commits brought from their host into a cache: by the quick way where that works, else by `git fetch`.

A commit is marked in its cache only when its whole tree was seen to be there, and not too large to be written out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx

from provider.errors import Temporary
from provider.source.cache import Cache, Holding
from provider.source.failures import lost, machine, unusable
from provider.source.git import Git, GitTimeout, Result
from provider.source.objects import Objects
from provider.source.remote import Cause, Remote, cause_of, commit_not_found, failure, unreachable
from provider.source.tree import entries
from provider.source.wire import HEADS, Wire

_SMALL_LISTING, _MAX_LISTING = 64 << 10, 64 << 20
_ALL_HISTORY = "--depth=2147483647"
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
_WANTED = "refs/heads/branches/wanted"
_LISTING = ("ls-tree", "-z", "-l", "-t", "-r", "--full-tree")
_SIZES = ("ls-tree", "-r", "--full-tree", "--format=%(objectsize)")


class _NeedsHistory(Exception):
    """The server cannot give single commits."""


class Fetcher:
    """Fills caches; whoever calls it holds the cache's lock.

    Args:
        git: runs git.
        http: the client for the quick way; stays its owner's to close.
        timeout: seconds for one git operation.
        max_bytes: the most that the files of a commit may have together.
        wanted: the paths of files whose contents are read with a commit.
    """

    def __init__(
        self, *, git: Git, http: httpx.AsyncClient, timeout: float, max_bytes: int, wanted: Sequence[str]
    ) -> None:
        self._git = git
        self._wire = Wire(http=http, git=git, timeout=timeout)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._wanted = wanted

    async def commit(self, remote: Remote, cache: Cache, sha: str | None) -> str:
        """Bring a commit (None: the branch's head) with its whole tree into the cache; returns its sha."""
        commit = await self._over_wire(remote, cache, sha)
        if commit is None:
            commit = await self._by_git(remote, cache, sha)
            if not await self._is_whole(remote, cache, commit):
                await cache.discard()
                raise lost(remote.repo, commit, "did not come whole")
        cache.mark(commit)
        return commit

    async def lengthen(self, remote: Remote, history: Cache, short: str) -> str:
        """The one commit on the branch whose sha begins with `short`; `history` holds commits without files."""
        await self._fetch(remote, history, [remote.branch_refspec], "--filter=tree:0")
        listed = await self._ask(remote, history, "rev-parse", f"--disambiguate={short}")
        answers = {sha: await self._on_branch(remote, history, sha) for sha in listed.out.decode().split()}
        if listed.code != 0 or None in answers.values():
            await history.discard()
            raise lost(remote.repo, short, "could not be looked up in the cache", listed.complaints)
        found = [sha for sha, on_branch in answers.items() if on_branch]
        if len(found) != 1:
            raise commit_not_found(remote, short, ambiguous=len(found) > 1)
        return found[0]

    async def heads(self, remote: Remote) -> frozenset[str]:
        """The names of every branch; nothing but a whole answer is one."""
        try:
            found = await self._wire.heads(remote)
            if found is not None:
                return found
            arguments = ("ls-remote", "--heads", "--", remote.url)
            result = await self._git.run(*arguments, config=remote.config(), max_out=_MAX_LISTING)
        except GitTimeout:
            raise self._late(remote) from None
        except OSError as error:
            raise machine(error) from None
        if result.code or result.truncated:
            raise failure(remote, cause_of(result), result)
        refs = (line.partition("\t")[2] for line in result.out.decode(errors="surrogateescape").splitlines())
        return frozenset(ref.removeprefix(HEADS) for ref in refs if ref.startswith(HEADS))

    async def _over_wire(self, remote: Remote, cache: Cache, sha: str | None) -> str | None:
        """The quick way (see `wire`); None when `git fetch` has to be asked."""
        if not self._wire.can(remote):
            return None
        try:
            await cache.prepare()
            async with Objects(self._git, cache, self._wanted) as objects:
                head = await self._wire.fetch(remote, cache, sha, beside=objects.start)
                commit = sha or head
                if head is None or commit is None:
                    return None
                cache.holding = await objects.holding(commit)
        except GitTimeout:
            raise self._late(remote) from None
        except OSError as error:
            raise machine(error) from None
        if not await self._is_commit(remote, cache, commit):
            return None
        if commit == head:
            cache.point(remote.branch_ref, head)
        return commit

    async def _is_commit(self, remote: Remote, cache: Cache, sha: str) -> bool:
        """Whether it is one, and whole: a request can name a tree or a tag."""
        if cache.holding is not None:
            self._check_size(remote, sha, cache.holding.size)
            return True
        if (await self._ask(remote, cache, "cat-file", "-t", sha)).out != b"commit\n":
            return False
        return await self._is_whole(remote, cache, sha)

    async def _by_git(self, remote: Remote, cache: Cache, sha: str | None) -> str:
        branch = remote.branch_refspec
        wanted = [branch] if sha is None else [branch, f"+{sha}:{_WANTED}"]
        try:
            await self._fetch(remote, cache, wanted, "--depth=1", sha=sha)
        except _NeedsHistory:
            # An old server gives a commit only as part of its branch, a dumb one nothing without history.
            await self._fetch(remote, cache, [branch], *([_ALL_HISTORY] if cache.shallow else []), sha=sha)
            if sha is not None and not await self._on_branch(remote, cache, sha):
                raise commit_not_found(remote, sha) from None
        return sha or cache.head(remote.branch_ref)

    async def _is_whole(self, remote: Remote, cache: Cache, sha: str) -> bool:
        """Whether nothing of the commit's tree is missing: the size of each of its files can be told.

        Refuses a tree that is many times larger than the pack it came in.
        """
        listed = await self._ask(remote, cache, *_LISTING, sha, max_out=_SMALL_LISTING)
        try:
            if listed.truncated:
                listed = await self._ask(remote, cache, *_SIZES, sha, max_out=_MAX_LISTING)
                total = sum(int(size) for size in listed.out.split() if size != b"-")
            else:
                cache.holding = Holding(sha, entries(listed.out.decode(errors="surrogateescape")))
                total = cache.holding.size
        except ValueError:  # git calls the size of what is missing BAD
            return False
        self._check_size(remote, sha, self._max_bytes + 1 if listed.truncated else total)
        return listed.code == 0

    def _check_size(self, remote: Remote, sha: str, total: int) -> None:
        """Refuse a commit whose files have more than `max_bytes` together."""
        if total > self._max_bytes:
            raise unusable(
                "TooLarge",
                f"the files of {remote.repo} at {sha[:12]} are larger than GIT_MAX_BYTES ({self._max_bytes}) allows",
            )

    async def _on_branch(self, remote: Remote, cache: Cache, sha: str) -> bool | None:
        """Whether the commit is part of the branch; None when git cannot tell."""
        ancestry = await self._ask(remote, cache, "merge-base", "--is-ancestor", sha, remote.branch_ref)
        if ancestry.code > 1 and "not a commit" not in ancestry.err:
            return None
        return ancestry.code == 0

    async def _fetch(
        self, remote: Remote, cache: Cache, refspecs: list[str], *options: str, sha: str | None = None
    ) -> None:
        """One `git fetch`, again in a fresh cache if the old one is what failed.

        The refspecs go over stdin: no name can be taken for an option, and git fetches nothing before
        its limits are in place.
        """
        try:
            fresh = await cache.prepare()
        except OSError as error:
            raise machine(error) from None
        try:
            result = await self._ask(
                remote, cache, *_FETCH, *options, "--stdin", "--", remote.url, stdin=refspecs, config=remote.config()
            )
        finally:
            cache.sweep()
        if result.code == 0:
            return
        cause = cause_of(result)
        if cause in (Cause.UNADVERTISED, Cause.NO_SHALLOW) and "--depth=1" in options:
            raise _NeedsHistory
        if cause is not None or fresh:
            raise failure(remote, cause, result, sha)
        await cache.discard()
        await self._fetch(remote, cache, refspecs, *options, sha=sha)

    async def _ask(
        self,
        remote: Remote,
        cache: Cache,
        *arguments: str,
        stdin: Sequence[str] = (),
        config: Mapping[str, str] | None = None,
        max_out: int = 1 << 20,
    ) -> Result:
        lines = "".join(f"{line}\n" for line in stdin).encode()
        where = f"--git-dir={cache.path}"
        try:
            return await self._git.run(where, *arguments, stdin=lines, config=config, max_out=max_out)
        except GitTimeout:
            raise self._late(remote) from None
        except OSError as error:
            raise machine(error) from None

    def _late(self, remote: Remote) -> Temporary:
        return unreachable(remote, f"could not be fetched within {self._timeout:g} s")
