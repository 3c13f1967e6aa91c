"""Image tags of the registry that nothing needs any more, and that this installation pushed.

The platform's present provider pushes to repositories of the same names: an image is ours only where its own label
says so. So many are kept of each preview, and all that its record names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import structlog

from provider import render
from provider.errors import PreviewError
from provider.platforms.needs import Needed, Orphan
from provider.platforms.registry import Image, Registry
from provider.settings import Settings

log = structlog.get_logger(__name__)

PLATFORM_LABEL = render.PREFIX + "platform-id"


class OldImages:
    """Finds them. A registry that deletes nothing is asked once, and what an image says of itself, too.

    The registry may hold thousands of images of others: to read each again would hold up all that is to go.
    """

    def __init__(self, *, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._platform_id = settings.platform_id
        self._keep = settings.keep_images
        self._refused = False
        self._read: dict[str, Image] = {}

    async def find(self, needed: Needed) -> list[Orphan]:
        """The tags that are too many; none where the registry can't be asked."""
        orphans: list[Orphan] = []
        if self._refused:
            return orphans
        before, self._read = self._read, {}
        try:
            for slug in sorted(await self._registry.slugs() | needed.previews.keys()):
                if slug not in needed.busy:
                    orphans += await self._of(slug, needed, before)
        except PreviewError as error:
            log.info("images.not_listed", error=str(error), evidence=error.evidence)
        return orphans

    async def _of(self, slug: str, needed: Needed, before: Mapping[str, Image]) -> list[Orphan]:
        kept = needed.previews.get(slug)
        tags = await self._registry.tags(slug)
        if not tags or (kept is not None and len(tags) <= self._keep):
            return []
        digests = {tag: digest for tag in tags if (digest := await self._registry.digest(slug, tag)) is not None}
        named = kept.digests if kept is not None else frozenset()
        unnamed = sorted({*digests.values()} - named)
        images = [before.get(digest) or await self._registry.image(slug, digest) for digest in unnamed]
        self._read.update({image.digest: image for image in images if image.created or image.labels})
        left = max(0, self._keep - len(named & {*digests.values()})) if kept is not None else 0
        leaving = {image.digest for image in self._oldest(images, left)}
        return [
            Orphan(f"image/previews/{slug}:{tag}", digest, slug, partial(self._remove, slug, digest))
            for tag, digest in digests.items()
            if digest in leaving
        ]

    def _oldest(self, images: Iterable[Image], left: int) -> list[Image]:
        """Ours, but for the newest `left`."""
        ours = [image for image in images if image.labels.get(PLATFORM_LABEL) == self._platform_id]
        return sorted(ours, key=lambda image: image.created, reverse=True)[left:]

    async def _remove(self, slug: str, digest: str) -> None:
        if not self._refused and not await self._registry.delete(slug, digest):
            self._refused = True
            log.warning(
                "images.kept", detail="the registry deletes no images: allow it, or clean it up by its own means"
            )
