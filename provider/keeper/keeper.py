"""The keeper: its parts, put together for the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from provider.keeper.branches import Branches
from provider.keeper.expiry import Expiry
from provider.keeper.known import Known, Mine
from provider.keeper.notices import Notices, Publish
from provider.keeper.removals import Removals
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.store.lifetime import Policy

OFTEN = 5.0
"""Seconds between two looks at what the keeper knows, which cost next to nothing."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done again and again, with that pause in seconds."""

    name: str
    once: Callable[[], Awaitable[None]]
    pause: float


class Keeper:
    """Looks after previews in the background.

    Args:
        ctx, runner: what removals need.
        mine: see `known.Mine`.
        publish: publishes events.
    """

    def __init__(self, *, ctx: Context, runner: Runner, mine: Mine, publish: Publish) -> None:
        known = Known(Policy.of(ctx.settings))
        notices = Notices(publish=publish, reporter=ctx.reporter)
        expiry = Expiry(ctx=ctx, runner=runner, known=known, mine=mine, notices=notices, visited=ctx.platform.visited)
        branches = Branches(ctx=ctx, runner=runner, known=known, mine=mine, notices=notices, heads=ctx.source.heads)
        removals = Removals(ctx=ctx, runner=runner, known=known, mine=mine)
        self.on_preview = known.on_preview
        self.chores = (
            Chore("expiry", expiry.once, 1.0),
            Chore("branches", branches.once, OFTEN),
            Chore("removals", removals.once, OFTEN),
        )
