"""What a commit holds, read by one `git cat-file --batch-command` that is up before the commit is there.

`git ls-tree` and `git cat-file` tell the same, as two processes more that start while the deploy waits for them.
Only small commits are read this way: of larger ones the answers are not worth the questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from provider.source.cache import Cache, Holding
from provider.source.git import Git, Talk
from provider.source.tree import KINDS, Entry, Kind

MOST_ENTRIES = 500
"""All questions about them fit into a pipe, so they can be asked before the first answer is read."""
MOST_BYTES = 64 << 10
"""Of one folder, or of one file whose content is kept."""
MODE_DIGITS, OID_BYTES = 6, 20


class _NotRead(Exception):
    """Something is missing, large, or otherwise not as it mostly is."""


class Objects:
    """Reads the objects of one cache, from `start` to the end of the block.

    Args:
        git: runs git.
        cache: is ready for a fetch; nobody makes it anew meanwhile.
        wanted: the paths of files whose contents are read as well.
    """

    def __init__(self, git: Git, cache: Cache, wanted: Sequence[str]) -> None:
        self._git = git
        self._cache = cache
        self._wanted = wanted
        self._talk: Talk | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._talk is not None:
            await self._talk.end()

    async def start(self) -> None:
        """Have the process; to be called beside the fetch."""
        self._talk = await self._git.talk(f"--git-dir={self._cache.path}", "cat-file", "--batch-command")

    async def holding(self, commit: str) -> Holding | None:
        """What the commit holds; None: it is not whole, not small, or no commit. Whoever wants to know asks git.

        Raises:
            GitTimeout: git did not answer in time.
        """
        try:
            return await self._holding(commit)
        except (_NotRead, ValueError, asyncio.IncompleteReadError):
            return None

    async def _holding(self, commit: str) -> Holding:
        [text] = await self._contents("commit", [commit])
        found: dict[str, Entry] = {}
        folders = {"": text.partition(b"\n")[0].removeprefix(b"tree ").decode()}
        while folders:
            trees = await self._contents("tree", folders.values())
            lines = [(prefix + name, kind, oid) for prefix, tree in zip(folders, trees, strict=True)
                     for kind, name, oid in _lines(tree)]  # fmt: skip
            if len(found) + len(lines) > MOST_ENTRIES:
                raise _NotRead
            files = [oid for _, kind, oid in lines if kind != "dir"]
            sizes = dict(zip(files, await self._sizes(files), strict=True))
            found |= {path: Entry(kind, oid, sizes.get(oid, 0)) for path, kind, oid in lines}
            folders = {f"{path}/": oid for path, kind, oid in lines if kind == "dir"}
        present = [found[path] for path in self._wanted if path in found]
        small = [one.oid for one in present if one.kind == "file" and one.size <= MOST_BYTES]
        return Holding(commit, found, dict(zip(small, await self._contents("blob", small), strict=True)))

    async def _contents(self, kind: str, oids: Iterable[str]) -> list[bytes]:
        talk, wanted = self._asked("contents", oids)
        found = []
        for oid in wanted:
            told, size = await _head(talk, oid)
            if told != kind or size > MOST_BYTES:
                raise _NotRead
            found.append((await talk.read(size + 1))[:-1])  # without the line's end after it
        return found

    async def _sizes(self, oids: Iterable[str]) -> list[int]:
        talk, wanted = self._asked("info", oids)
        return [(await _head(talk, oid))[1] for oid in wanted]

    def _asked(self, command: str, oids: Iterable[str]) -> tuple[Talk, list[str]]:
        assert self._talk is not None, "started beside the fetch"
        wanted = list(oids)
        self._talk.write("".join(f"{command} {oid}\n" for oid in wanted).encode())
        return self._talk, wanted


async def _head(talk: Talk, oid: str) -> tuple[str, int]:
    """An object's type and size: `<oid> <type> <size>`, or `<oid> missing` (git-cat-file(1))."""
    match (await talk.line()).split():
        case [told, kind, size] if told == oid:
            return kind, int(size)
        case _:
            raise _NotRead


def _lines(tree: bytes) -> Iterator[tuple[Kind, str, str]]:
    """(kind, name, oid) of what stands in a tree object: `<mode> <name>\\0<20 bytes>` each, without submodules."""
    at = 0
    while at < len(tree):
        end = tree.index(b"\0", at)
        mode, _, name = tree[at:end].partition(b" ")
        at = end + 1 + OID_BYTES
        if kind := KINDS.get(mode.decode().zfill(MODE_DIGITS)[:2]):
            yield kind, name.decode(errors="surrogateescape"), tree[end + 1 : at].hex()
