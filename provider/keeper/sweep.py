"""Sweep: what has our marks and is needed by no record gets one again, or goes, when it has been so for a while.

A preview that serves, and whose note says what (see `platforms.notes`), lost its record: it is adopted. One that was
torn down has a record, a tombstone, and does not come back.

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
from provider.keeper.notices import Notices
from provider.models import DeployRecord, EventType, Phase, PreviewRecord, PreviewState, now
from provider.pipeline.context import Context
from provider.platforms.needs import Adoptable, Kept, Needed, Orphan
from provider.store import resting

log = structlog.get_logger(__name__)

KEY = "sweep"


class Sweep:
    """Looks for orphans, and adopts or removes those that were known for `SWEEP_GRACE` seconds.

    Args:
        ctx: of its parts, store and platform are compared.
        lock: of a preview, by its slug.
        notices: tell what was adopted.
        mine: whether this instance is the one that sweeps.
    """

    def __init__(
        self,
        *,
        ctx: Context,
        lock: Callable[[str], asyncio.Lock],
        notices: Notices,
        mine: Callable[[str], bool],
    ) -> None:
        self._ctx = ctx
        self._store = ctx.store
        self._platform = ctx.platform
        self._lock = lock
        self._notices = notices
        self._grace = ctx.settings.sweep_grace
        self._mine = mine
        self._since: dict[tuple[str, str], float] = {}

    async def once(self) -> None:
        """Look once; what is due is adopted, or removed."""
        if not self._mine(KEY):
            self._since.clear()
            return
        found = await self._platform.orphans(self._needed)
        at, before = time.monotonic(), self._since
        self._since = {(one.name, one.mark): before.get((one.name, one.mark), at) for one in found}
        if news := [one.name for one in found if (one.name, one.mark) not in before]:
            log.info("sweep.orphans", found=news, due_in=self._grace)
        due = [one for one in found if at - self._since[one.name, one.mark] >= self._grace]
        kept = [one.slug for one in found if one.adoptable is not None and one not in due]
        kept += [one.slug for one in due if one.adoptable is not None and await self._adopt(one.slug, one.adoptable)]
        for orphan in due:
            if orphan.slug not in kept:
                await self._remove(orphan)

    async def _adopt(self, slug: str, found: Adoptable) -> bool:
        """Make the record of a preview that lost it; False where there is one after all, if only a tombstone."""
        reducer = resting.adopted(
            found.revision,
            slug=slug,
            platform_id=self._ctx.settings.platform_id,
            url=self._ctx.url(slug),
            generation=found.generation,
            now=now(),
        )
        async with self._lock(slug):
            try:
                record = await self._store.change_preview(slug, reducer)
            except PreviewError as error:
                log.warning("sweep.not_adopted", slug=slug, error=str(error), evidence=error.evidence)
                return True  # nobody knows, so nothing of it is removed
        if record.removed_at is not None:
            return False
        if record.newest.order:
            return True  # somebody has begun to deploy it meanwhile, and takes over what is there
        log.warning("sweep.adopted", slug=slug, repo=record.repo_full_name, deploy_id=found.revision.deploy_id)
        text = f"The record of {slug} was lost; it has one again, made of what it serves."
        self._notices.event(record, EventType.WARNING, "Adopted", text, now(), {"generation": found.generation})
        return True

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
        running = [one for one in deploys if one.finished_at is None]
        previews: dict[str, Kept] = {}
        busy = {one.slug for one in running if one.slug}
        async for slug, preview in self._store.each_preview():
            if preview is not None:
                previews[slug] = _kept(preview)
            if preview is None or _is_busy(preview):
                busy.add(slug)
        return Needed(
            previews=previews,
            busy=frozenset(busy),
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
