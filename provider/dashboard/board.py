"""Every preview as the store's watch tells it, and what changed since a reader last looked.

A reader names what it has seen by a mark. Another process's marks, and those of long ago, mean nothing here: such a
reader gets everything anew.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from provider.models import PreviewOutline

MOST_GONE = 1000


@dataclass(frozen=True, slots=True)
class News:
    """What changed: previews as they are now, slugs that are gone, and the mark to ask with next time.

    `whole`: these are all previews; whatever else the reader knows is gone.
    """

    mark: str
    changed: tuple[PreviewOutline, ...]
    gone: tuple[str, ...] = ()
    whole: bool = False


class Board:
    """The previews of one installation, as this process knows them.

    Args:
        most_gone: how many that are gone are remembered, to be told to readers who were away.
    """

    def __init__(self, *, most_gone: int = MOST_GONE) -> None:
        self._most_gone = most_gone
        self._epoch = uuid.uuid4().hex[:8]
        self._version = 0
        self._oldest = 0
        self._previews: dict[str, PreviewOutline] = {}
        self._changed: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._next = asyncio.Event()

    def on_preview(self, record: PreviewOutline) -> None:
        """A record as it is now; a removed one's tombstone included."""
        slug, record = record.slug, record.outline()
        if self._previews.get(slug) == record or (record.removed_at and slug not in self._previews):
            return
        self._version += 1
        if record.removed_at is None:
            self._previews[slug] = record
            self._changed[slug] = self._version
            self._gone.pop(slug, None)
        else:
            del self._previews[slug], self._changed[slug]
            self._gone[slug] = self._version
            if len(self._gone) > self._most_gone:
                self._oldest = self._gone.pop(next(iter(self._gone)))
        self._next.set()
        self._next = asyncio.Event()

    def get(self, slug: str) -> PreviewOutline | None:
        """The preview, unless it is gone."""
        return self._previews.get(slug)

    def all(self) -> News:
        """Every preview, the one that was deployed last first."""
        ordered = sorted(self._previews.values(), key=lambda one: (-one.newest.order, one.slug))
        return News(self._mark(), tuple(ordered), whole=True)

    def since(self, mark: str) -> News:
        """What changed since that mark; everything where nobody knows."""
        seen = self._seen(mark)
        if seen is None:
            return self.all()
        return News(
            self._mark(),
            tuple(self._previews[slug] for slug, version in self._changed.items() if version > seen),
            tuple(slug for slug, version in self._gone.items() if version > seen),
        )

    async def change(self, mark: str) -> None:
        """Return as soon as there is something newer than that mark."""
        seen = self._seen(mark)
        if seen is not None and seen == self._version:
            await self._next.wait()

    def _mark(self) -> str:
        return f"{self._epoch}-{self._version}"

    def _seen(self, mark: str) -> int | None:
        epoch, _, version = mark.partition("-")
        if epoch != self._epoch or not (version.isascii() and version.isdecimal() and len(version) < 16):
            return None
        return int(version) if self._oldest <= int(version) <= self._version else None
