"""Removals that nobody goes on with: a provider died in the middle, or the platform refused for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from provider.errors import PreviewError
from provider.keeper.known import Known, Mine
from provider.models import PreviewState, now
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.pipeline.teardown import finish_teardown

log = structlog.get_logger(__name__)

STALLED = timedelta(seconds=30)
"""How long a record says `removing` until somebody else goes on; doing it twice at once is no harm."""


class Removals:
    """Finishes removals.

    Args:
        ctx, runner: what a removal needs.
        known: the previews.
        mine: see `known.Mine`.
        clock: the present time.
    """

    def __init__(
        self, *, ctx: Context, runner: Runner, known: Known, mine: Mine, clock: Callable[[], datetime] = now
    ) -> None:
        self._ctx = ctx
        self._runner = runner
        self._known = known
        self._mine = mine
        self._clock = clock
        self._tried: dict[str, datetime] = {}

    async def once(self) -> None:
        """Go on with every removal that has stood still since it was begun, or tried here."""
        at = self._clock()
        going = [one.record for one in self._known if one.record.state is PreviewState.REMOVING]
        self._tried = {one.slug: self._tried.get(one.slug, one.updated_at) for one in going}
        stalled = [one.slug for one in going if self._tried[one.slug] + STALLED <= at and self._mine(one.slug)]
        for slug in stalled:
            self._tried[slug] = at
        await asyncio.gather(*map(self._finish, stalled))

    async def _finish(self, slug: str) -> None:
        try:
            await finish_teardown(self._ctx, self._runner, slug)
        except PreviewError as error:
            log.warning("removal.not_finished", slug=slug, error=str(error), evidence=error.evidence)
        else:
            log.info("removal.finished", slug=slug)
