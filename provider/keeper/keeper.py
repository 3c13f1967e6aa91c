"""The keeper: its parts, put together for the service."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from provider.background import forever
from provider.keeper.branches import Branches
from provider.keeper.expiry import Expiry
from provider.keeper.known import Known, Mine
from provider.keeper.notices import Notices, Publish
from provider.keeper.reconcile import Reconcile
from provider.keeper.removals import Removals
from provider.keeper.sweep import Sweep
from provider.models import PreviewOutline, PreviewState
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.store.lifetime import Policy

OFTEN = 5.0
"""Seconds between two looks at what the keeper knows, which cost next to nothing."""
LATER = 30.0
"""Seconds after the start at most: one that starts because another died has deploys to go on with first."""
AT_ONCE = 0.1
"""Seconds between two looks of what waits by itself until there is something to look at."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done again and again, with that pause in seconds; for the first time `after` so many."""

    name: str
    once: Callable[[], Awaitable[None]]
    pause: float
    after: float = 0.0

    async def run(self) -> None:
        """Do it, for ever."""
        await asyncio.sleep(self.after)
        await forever(self.once, self.pause)


class Keeper:
    """Looks after previews in the background.

    Args:
        ctx, runner: what removals need.
        mine: see `known.Mine`.
        publish: publishes events.
        lasting: whether records outlive this process: else nobody knows what is an orphan.
    """

    def __init__(self, *, ctx: Context, runner: Runner, mine: Mine, publish: Publish, lasting: bool) -> None:
        known = self._known = Known(Policy.of(ctx.settings))
        notices = Notices(publish=publish, reporter=ctx.reporter)
        expiry = Expiry(ctx=ctx, runner=runner, known=known, mine=mine, notices=notices, visited=ctx.platform.visited)
        branches = Branches(ctx=ctx, runner=runner, known=known, mine=mine, notices=notices, heads=ctx.source.heads)
        removals = Removals(ctx=ctx, runner=runner, known=known, mine=mine)
        reconcile = self._reconcile = Reconcile(
            store=ctx.store, platform=ctx.platform, lock=runner.lock, notices=notices, mine=mine
        )
        ctx.platform.on_change(reconcile.touched)
        sweep = Sweep(ctx=ctx, lock=runner.lock, notices=notices, mine=mine)
        seconds = ctx.settings.sweep_seconds
        self.chores = (
            Chore("expiry", expiry.once, 1.0),
            Chore("branches", branches.once, OFTEN),
            Chore("removals", removals.once, OFTEN),
            Chore("reconcile", reconcile.once, AT_ONCE),
            Chore("reconcile all", reconcile.all, ctx.settings.reconcile_seconds),
            *((Chore("sweep", sweep.once, seconds, after=min(seconds, LATER)),) if lasting else ()),
        )

    def states(self) -> Counter[PreviewState]:
        """How many previews are in which state, of all providers."""
        return Counter(one.record.state for one in self._known)

    def on_preview(self, record: PreviewOutline) -> None:
        """A preview's record is this now."""
        self._known.on_preview(record)
        self._reconcile.on_preview(record)
