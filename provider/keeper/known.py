"""What the keeper knows of each preview: its outline, as the watch showed it last.

A thousand records take a second to read; the keeper looks at them every few seconds. So it looks here, and whatever
it decides is decided again by a reducer, on the record itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from provider.models import PreviewOutline
from provider.store.lifetime import Policy, branches

Mine = Callable[[str], bool]
"""Whether this provider is the one that should look after that key now."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview, and what is asked of it again and again.

    Args:
        record: its outline.
        branches: those that it is of.
        ends: when its time to live is over; None: never.
        warns: when its end is to be announced; None: never, or it is.
    """

    record: PreviewOutline
    branches: frozenset[str]
    ends: datetime | None
    warns: datetime | None


class Known:
    """Every preview that is not removed, by slug."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._previews: dict[str, Preview] = {}

    def on_preview(self, record: PreviewOutline) -> None:
        """A preview's record changed."""
        if record.removed_at is not None:
            self._previews.pop(record.slug, None)
            return
        ends, warns = self._policy.expires_at(record), self._policy.warns_at(record)
        outline, warns = record.outline(), None if record.warned_at else warns
        self._previews[record.slug] = Preview(outline, branches(record), ends, warns)

    def forget(self, slug: str) -> None:
        """There is no such preview any more, whatever the watch has told."""
        self._previews.pop(slug, None)

    def get(self, slug: str) -> PreviewOutline | None:
        """Its outline as it was seen last."""
        found = self._previews.get(slug)
        return found.record if found is not None else None

    def __iter__(self) -> Iterator[Preview]:
        return iter(tuple(self._previews.values()))
