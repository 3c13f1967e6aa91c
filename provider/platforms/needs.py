"""What records need of a platform, and what is there although none does: the words of the sweep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from provider.models import Revision


@dataclass(frozen=True, slots=True)
class Kept:
    """What a preview's record needs: of its revisions that serve, or can be put back, or looked at.

    Args:
        generation: the newest; what is newer is not the record's yet.
        generations, bundles, digests: of these revisions; digests also of the images that the record names.
    """

    generation: int
    generations: frozenset[int]
    bundles: frozenset[str]
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Needed:
    """What all records need. What has our marks and is not among it is an orphan.

    Args:
        previews: by slug.
        busy: slugs that something is under way for, or of which nobody knows: nothing of them is an orphan.
        staged: names of staged secrets of deploys under way.
        builds: slug and build inputs of deploys under way.
        ended_builds: names of the build jobs of deploys that are over.
    """

    previews: Mapping[str, Kept]
    busy: frozenset[str]
    staged: frozenset[str]
    builds: frozenset[tuple[str, str]]
    ended_builds: frozenset[str]

    def is_gone(self, slug: str) -> bool:
        """Whether the preview has no record."""
        return slug not in self.previews and slug not in self.busy

    def is_past(self, slug: str, generation: int) -> bool:
        """Whether the preview has no record, or none that needs what that generation made."""
        if slug in self.busy:
            return False
        kept = self.previews.get(slug)
        return kept is None or (generation <= kept.generation and generation not in kept.generations)


@dataclass(frozen=True, slots=True)
class Adoptable:
    """A revision that has its preview's traffic; `generation` is the newest of which the platform has something."""

    revision: Revision
    generation: int


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something with our marks that no record needs.

    Args:
        name: what it is, as `kind/name`.
        mark: which one: another of that name has another mark.
        slug: whose it was; "" where it is nobody's in particular.
        remove: removes it, if it is that very one still.
        adoptable: what runs there, where it says enough to make the preview's record of, as that generation.
    """

    name: str
    mark: str
    slug: str
    remove: Callable[[], Awaitable[object]] = field(compare=False)
    adoptable: Adoptable | None = field(default=None, compare=False)


Known = Callable[[], Awaitable[Needed]]
"""What the records need; asked after the platform was looked at, for what is made meanwhile has a record by then."""
