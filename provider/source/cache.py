"""One bare repository on disk that can be thrown away at any time.

It is made by writing three files (no process), and read by hand where one small file says it all.
Loose refs are all there is: nothing packs them, for git's housekeeping is off.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provider.source.tree import Entry

# Every fetch adds a pack, and each slows look-ups a little; a fresh start is one fetch without history.
_MAX_PACKS = 64
_COMMITS = "refs/heads/commits"
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


@dataclass(frozen=True, slots=True)
class Ahead:
    """The tree of a commit in a folder; `written` tells whether all of it is there."""

    sha: str
    folder: Path
    written: asyncio.Task[bool]

    async def moved(self, into: Path) -> bool:
        """Whether the tree stands in the empty folder `into` now."""
        with contextlib.suppress(OSError):
            return await self.written and bool(self.folder.rename(into))
        return False

    async def drop(self) -> None:
        """Nobody has asked for it."""
        self.written.cancel()
        await asyncio.gather(self.written, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Holding:
    """All that a commit holds, by path; of some files the contents, by their oid."""

    commit: str
    entries: Mapping[str, Entry]
    contents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all its files together."""
        return sum(entry.size for entry in self.entries.values())


class Cache:
    """A bare repository at `path`. Whoever changes it holds `lock`.

    Args:
        path: its folder, which need not exist.
        max_bytes: the size of all packs together from which it is not kept for another fetch.

    Attributes:
        holding: what the commit that was fetched last holds: it is deployed again and again.
        ahead: its tree, as it is being written out for whoever asks for that next.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self.lock = asyncio.Lock()
        self.holding: Holding | None = None
        self.ahead: Ahead | None = None

    @staticmethod
    def commit_ref(sha: str) -> str:
        """The ref that says: this commit's whole tree is here. Below refs/heads/ git takes nothing but commits."""
        return f"{_COMMITS}/{sha}"

    def has(self, sha: str) -> bool:
        """Whether the commit's whole tree is here."""
        return (self.path / self.commit_ref(sha)).exists()

    def mark(self, *shas: str) -> None:
        """Note that the trees of these commits are here."""
        for sha in shas:
            self.point(self.commit_ref(sha), sha)

    def head(self, ref: str) -> str:
        """The sha that a ref of a fetch that just succeeded holds."""
        return (self.path / ref).read_text().strip()

    def head_if_whole(self, ref: str) -> str | None:
        """The sha that a ref holds, if there is one and its whole tree is here."""
        with contextlib.suppress(FileNotFoundError):
            if self.has(sha := self.head(ref)):
                return sha
        return None

    def point(self, ref: str, sha: str) -> None:
        """Let a ref hold that commit."""
        path = self.path / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{sha}\n")

    def boundary(self) -> set[str]:
        """The commits here that lack their parents."""
        with contextlib.suppress(FileNotFoundError):
            return set((self.path / "shallow").read_text().split())
        return set()

    def move_boundary(self, more: set[str], fewer: set[str]) -> None:
        """Note which commits lack their parents now, and which do no more."""
        before = self.boundary()
        after = (before | more) - fewer
        if after != before:
            draft = self.path / "shallow.new"
            draft.write_text("".join(f"{sha}\n" for sha in sorted(after)))
            draft.rename(self.path / "shallow")

    @property
    def shallow(self) -> bool:
        """Whether some commit here lacks its parents."""
        return (self.path / "shallow").exists()

    async def prepare(self) -> bool:
        """Make it ready for a fetch; returns whether it is fresh, so that nothing in it can be damaged."""
        if self._can_take_more():
            self.sweep()
            return False
        if self.path.exists():
            await self.discard()
        self._make()
        return True

    def idle_since(self, moment: float) -> bool:
        """Whether nothing was fetched after `moment` (seconds since 1970)."""
        head = self.path / "HEAD"
        with contextlib.suppress(FileNotFoundError):
            return (head if head.exists() else self.path).stat().st_mtime < moment
        return False

    async def discard(self) -> None:
        """Delete it. What is cut off in the middle is found damaged, and deleted, when it is next used."""
        self.holding = None
        await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed fetch leaves: half a pack, and lock files that nobody holds any more."""
        for pattern in ("*.lock", "refs/heads/*/*.lock", "objects/pack/tmp_*", "objects/tmp_*", "objects/incoming-*"):
            for left in self.path.glob(pattern):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        left.unlink()

    def _can_take_more(self) -> bool:
        packs = [pack.stat().st_size for pack in self.path.glob("objects/pack/*.pack")]
        head = self.path / "HEAD"
        if not head.exists() or len(packs) >= _MAX_PACKS or sum(packs) >= self._max_bytes:
            return False
        head.touch()
        return True

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in ("objects", "refs/heads"):
            (self.path / folder).mkdir(parents=True)
        (self.path / "config").write_text(_CONFIG)
        (self.path / "HEAD").write_text("ref: refs/heads/none\n")
