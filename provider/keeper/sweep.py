"""Sweep: what has our marks and is needed by no record goes, when it has been so for a while.

The grace covers what stands before its record does (staged secrets), and what a record that was lost for a moment
still needs. What a deploy under way needs is never an orphan, whichever provider runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from provider import names
from provider.errors import PreviewError
from provider.models import DeployRecord, Phase, PreviewRecord, PreviewState
from provider.platforms.base import Platform
from provider.platforms.needs import Kept, Needed, Orphan
from provider.store import Store

log = structlog.get_logger(__name__)

KEY = "sweep"


class Sweep:
    """Looks for orphans, and removes those that were known for `grace` seconds.

    Args:
        store, platform: what is compared.
        lock: of a preview, by its slug.
        grace: seconds, from when this process first saw that nothing needs a thing.
        mine: whether this instance is the one that sweeps.
    """

    def __init__(
        self,
        *,
        store: Store,
        platform: Platform,
        lock: Callable[[str], asyncio.Lock],
        grace: float,
        mine: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._platform = platform
        self._lock = lock
        self._grace = grace
        self._mine = mine
        self._since: dict[tuple[str, str], float] = {}

    async def once(self) -> None:
        """Look once, and remove what is due."""
        if not self._mine(KEY):
            self._since.clear()
            return
        found = await self._platform.orphans(self._needed)
        now, before = time.monotonic(), self._since
        self._since = {(one.name, one.mark): before.get((one.name, one.mark), now) for one in found}
        if news := [one.name for one in found if (one.name, one.mark) not in before]:
            log.info("sweep.orphans", found=news, removed_in=self._grace)
        for orphan in found:
            if now - self._since[orphan.name, orphan.mark] >= self._grace:
                await self._remove(orphan)

    async def _remove(self, orphan: Orphan) -> None:
        """Remove one; not while somebody here changes its preview, or a deploy of it has just begun."""
        async with self._lock(orphan.slug or orphan.name):
            try:
                preview = await self._store.get_preview(orphan.slug) if orphan.slug else None
                if preview is not None and _is_busy(preview):
                    return
                await orphan.remove()
            except PreviewError as error:
                log.warning("sweep.failed", name=orphan.name, error=str(error), evidence=error.evidence)
            else:
                log.warning("sweep.removed", name=orphan.name, slug=orphan.slug)

    async def _needed(self) -> Needed:
        """What the records need now. Deploys first: one that ends meanwhile stands in its preview's record."""
        deploys = await self._store.deploys()
        previews, doubtful = await self._store.all_slugs()
        running = [one for one in deploys if one.finished_at is None]
        busy = {one.slug for one in running if one.slug} | {one.slug for one in previews if _is_busy(one)}
        return Needed(
            previews={one.slug: _kept(one) for one in previews},
            busy=doubtful | busy,
            staged=frozenset(one.staged for one in running),
            builds=frozenset((one.slug, one.build_inputs) for one in running if one.slug),
            ended_builds=frozenset(_job(one) for one in deploys if one.finished_at is not None and _built(one))
            - {_job(one) for one in running if one.slug and one.commit_sha},
        )


def _is_busy(preview: PreviewRecord) -> bool:
    return preview.removed_at is None and preview.state in {PreviewState.PROVISIONING, PreviewState.REMOVING}


def _kept(preview: PreviewRecord) -> Kept:
    revisions = [one for one in (preview.current, preview.last_good) if one is not None]
    return Kept(
        generation=preview.generation,
        generations=frozenset(one.generation for one in revisions),
        bundles=frozenset(one.bundle.name for one in revisions if one.bundle is not None),
        digests=frozenset(one.digest for one in revisions) | {image.digest for image in preview.images},
    )


def _built(deploy: DeployRecord) -> bool:
    """Whether credentials for a build of it may have been made."""
    private = deploy.request.installation_id is not None
    return private and any(timing.phase is Phase.BUILD for timing in deploy.timings)


def _job(deploy: DeployRecord) -> str:
    return names.build_job(str(deploy.slug), str(deploy.commit_sha))
