"""Time to live: previews that nobody uses are announced, then removed.

What the ingress saw of visitors is written into the record only now and then: a preview that is visited all the time
costs a write every ten minutes, not one a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import structlog

from provider.errors import Code, Permanent, PreviewError
from provider.keeper.known import Known, Mine
from provider.keeper.notices import Notices
from provider.models import EventType, PreviewOutline, now
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.pipeline.teardown import retire
from provider.store.lifetime import Policy, StillWanted, touched, unused, unwarned, warned

log = structlog.get_logger(__name__)

WRITTEN_EVERY = 600.0
"""Seconds between two writes of a preview's last visit, at most; less for a short time to live."""

AT_ONCE = 4
"""Removals at the same time, at most."""

Visited = Callable[[], Collection[str]]
"""The slugs of the previews that were visited since it was called last."""


class Expiry:
    """Removes previews whose time to live is over.

    Args:
        ctx, runner: what a removal needs.
        known: the previews.
        mine: see `known.Mine`.
        notices: tells of it.
        visited: what the ingress knows of visitors.
        clock: the present time.
    """

    def __init__(
        self,
        *,
        ctx: Context,
        runner: Runner,
        known: Known,
        mine: Mine,
        notices: Notices,
        visited: Visited,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._ctx = ctx
        self._runner = runner
        self._known = known
        self._mine = mine
        self._notices = notices
        self._visited = visited
        self._clock = clock
        self._policy = Policy.of(ctx.settings)
        self._visits: dict[str, datetime] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def once(self) -> None:
        """Write what is to be written of visits, announce what ends soon, remove what has ended."""
        at = self._clock()
        self._visits |= dict.fromkeys(self._visited(), at)
        await self._write_visits(at)
        over: list[PreviewOutline] = []
        for preview in self._known:
            if preview.ends is not None and preview.ends <= at:
                if self._mine(preview.record.slug):
                    over.append(preview.record)
            elif preview.warns is not None and preview.warns <= at and self._mine(preview.record.slug):
                await self._announce(preview.record.slug, at)
        await asyncio.gather(*(self._remove(record, at) for record in over))

    async def _write_visits(self, at: datetime) -> None:
        for slug, visit in list(self._visits.items()):
            record = self._known.get(slug)
            if record is None or visit <= record.last_access:
                del self._visits[slug]
            elif at - record.last_access >= self._pause(record):
                del self._visits[slug]
                await self._change(slug, visit)

    def _pause(self, record: PreviewOutline) -> timedelta:
        return timedelta(seconds=min(WRITTEN_EVERY, (self._policy.seconds(record) or WRITTEN_EVERY * 8) / 8))

    async def _change(self, slug: str, visit: datetime) -> None:
        try:
            self._known.on_preview(await self._ctx.store.change_preview(slug, touched(visit)))
        except Permanent as gone:
            log.debug("expiry.gone", slug=slug, error=str(gone))

    async def _announce(self, slug: str, at: datetime) -> None:
        """Tell it first, then note that it is told: a provider that dies in between lets another tell it again."""
        record = await self._ctx.store.get_preview(slug)
        end = self._policy.expires_at(record) if record is not None else None
        if record is None or end is None or not unwarned(record, self._policy, at):
            return
        when = end.isoformat(timespec="seconds")
        text = (
            f"The preview {slug} ({record.url}) is removed at {when}, unless it is used until then. To keep it, "
            f"touch it (`preview touch {slug}`) or deploy it again."
        )
        self._notices.tell(record, EventType.WARNING, "ExpiresSoon", text, at, {"expires_at": end.isoformat()})
        try:
            self._known.on_preview(await self._ctx.store.change_preview(slug, warned(self._policy, at)))
        except Permanent as gone:
            log.debug("expiry.gone", slug=slug, error=str(gone))

    async def _remove(self, record: PreviewOutline, at: datetime) -> None:
        slug, seconds = record.slug, self._policy.seconds(record)
        try:
            async with self._slots:
                removed = await retire(self._ctx, self._runner, slug, unused(self._policy, at))
        except StillWanted:
            return  # touched, claimed or deployed since the watch told of it
        except PreviewError as error:
            if error.code is Code.NOT_FOUND:
                self._known.forget(slug)  # until the watch tells of it again
            log.warning("expiry.not_removed", slug=slug, error=str(error), evidence=error.evidence)
            return
        log.info("expiry.removed", slug=slug, ttl_seconds=seconds)
        text = (
            f"The preview {slug} was removed: it was not used for {seconds} s. A deploy of {record.repo_full_name}, "
            f"branch {record.branch}, brings it back."
        )
        entry = {"action": "expire", "who": "provider", "slug": slug, "repo_full_name": record.repo_full_name}
        self._ctx.reporter.audit(entry | {"ttl_seconds": seconds, "deleted": removed.deleted})
        self._notices.tell(record, EventType.STATE, "Expired", text, at, {"state": "removed"})
