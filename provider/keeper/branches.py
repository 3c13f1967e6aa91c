"""Branches that are gone: their previews go, too, after a grace.

Only a git host that answers well, and names other branches, says that one is gone. Whatever else it says (an error,
nothing, no such repository, no access, no branch at all) says nothing about previews: an outage removes none. A
branch has to be missing in two listings, the grace apart; where the first one stands is the preview's record.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from provider.errors import Code, PreviewError
from provider.keeper.known import Known, Mine, Preview
from provider.keeper.notices import Notices
from provider.models import EventType, PreviewOutline, PreviewState, digest_of, now
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.pipeline.teardown import retire
from provider.store.lifetime import StillWanted, branch_gone, branch_seen

log = structlog.get_logger(__name__)

AT_ONCE = 4
"""Listings at the same time, at most."""


class Heads(Protocol):
    """Lists the branches of a repository (see `source.Source.heads`)."""

    async def __call__(self, repo: str, installation_id: int | None) -> frozenset[str]:
        """Every branch; raises PreviewError for whatever is no clear answer."""


class Branches:
    """Looks for the branches of previews, each repository once an interval.

    Args:
        ctx, runner: what a removal needs.
        known: the previews.
        mine: see `known.Mine`; asked for repositories.
        notices: tells of it.
        heads: lists branches.
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
        heads: Heads,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._ctx = ctx
        self._runner = runner
        self._known = known
        self._mine = mine
        self._notices = notices
        self._heads = heads
        self._clock = clock
        self._every = timedelta(seconds=ctx.settings.branch_check_seconds)
        self._grace = ctx.settings.branch_grace_seconds
        self._due: dict[str, datetime] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def once(self) -> None:
        """List the branches of the repositories whose turn it is, and judge their previews."""
        at = self._clock()
        repositories: defaultdict[str, list[Preview]] = defaultdict(list)
        for preview in self._known:
            if preview.record.state is not PreviewState.REMOVING:
                repositories[preview.record.repo_full_name.casefold()].append(preview)
        self._due = {repo: self._due.get(repo) or self._first(repo, at) for repo in repositories}
        turn = [repo for repo, due in self._due.items() if due <= at and self._mine(f"repository.{repo}")]
        await asyncio.gather(*(self._look(repo, repositories[repo], at) for repo in turn))

    def _first(self, repo: str, at: datetime) -> datetime:
        """When a repository is listed first: they are spread evenly over the interval."""
        return at + self._every * (int(digest_of(repo)[:8], 16) / 0xFFFFFFFF)

    async def _look(self, repo: str, previews: Collection[Preview], at: datetime) -> None:
        self._due[repo] = at + self._every
        async with self._slots:
            try:
                there = await self._listed(previews)
            except PreviewError as error:
                log.info("branches.unknown", repo=repo, error=str(error), reason=error.reason)
                return
            if not there:
                log.info("branches.none", repo=repo)  # an answer that says nothing: see above
                return
            for preview in previews:
                await self._judge(preview, there, at)

    async def _listed(self, previews: Collection[Preview]) -> frozenset[str]:
        """The repository's branches, with the credentials of the preview that was deployed last."""
        newest = max(previews, key=lambda one: one.record.newest.order).record
        return await self._heads(newest.repo_full_name, newest.installation_id)

    async def _judge(self, preview: Preview, there: frozenset[str], at: datetime) -> None:
        """Note what was seen, where that is news; remove what was gone before, and long enough."""
        record, gone = preview.record, preview.branches - there
        missing = gone == preview.branches
        try:
            if missing and record.branch_gone_at is not None:
                await self._remove(record, gone, at)
            elif missing or record.branch_gone_at is not None:
                await self._note(record.slug, missing, at)
        except StillWanted:
            return
        except PreviewError as error:
            if error.code is Code.NOT_FOUND:
                self._known.forget(record.slug)  # until the watch tells of it again
            log.warning("branches.not_judged", slug=record.slug, error=str(error), evidence=error.evidence)

    async def _note(self, slug: str, missing: bool, at: datetime) -> None:
        record = await self._ctx.store.change_preview(slug, branch_seen(not missing, at))
        self._known.on_preview(record)
        if missing and record.branch_gone_at == at:
            log.info("branches.gone", slug=slug, branch=record.branch)
            end = (at + timedelta(seconds=self._grace)).isoformat(timespec="seconds")
            text = (
                f"The branch {record.branch} of {record.repo_full_name} is gone. Its preview {slug} ({record.url}) is "
                f"removed after {end}, unless the branch is back or the preview is deployed again."
            )
            data = {"branch": record.branch, "branch_gone_at": at.isoformat()}
            self._notices.tell(record, EventType.WARNING, "BranchGone", text, at, data)

    async def _remove(self, record: PreviewOutline, gone: Collection[str], at: datetime) -> None:
        removed = await retire(self._ctx, self._runner, record.slug, branch_gone(gone, self._grace, at))
        log.info("branches.preview_removed", slug=record.slug, branch=record.branch)
        entry = {"action": "branch_gone", "who": "provider", "slug": record.slug, "branch": record.branch}
        entry["repo_full_name"] = record.repo_full_name
        self._ctx.reporter.audit({**entry, "deleted": removed.deleted})
        text = f"The preview {record.slug} was removed: its branch {record.branch} of {record.repo_full_name} is gone."
        data = {"state": "removed", "branch": record.branch}
        self._notices.tell(record, EventType.STATE, "BranchRemoved", text, at, data)
