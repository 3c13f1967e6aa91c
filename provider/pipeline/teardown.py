"""Teardown: nothing of a preview is left, and nothing that is under way brings it back."""

from __future__ import annotations

import asyncio

from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import PreviewRecord, PreviewState, now
from provider.pipeline.causes import torn_down
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.platforms.base import Removed
from provider.store import reducers
from provider.store.claims import NOBODY, Asker, Seen
from provider.store.lifetime import Check, retiring

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between tries."""


async def teardown(ctx: Context, runner: Runner, slug: str, asker: Asker = NOBODY) -> Removed:
    """Remove everything of the preview; repeatable, and works without a record. Raises `claimed`.

    The record says `removing` first: a deploy that was accepted before this is older than it from then
    on and ends, wherever it is. One that is accepted later goes on, and waits for its turn.
    """
    order, at, lost = await ctx.store.next_order(slug), now(), ctx.platform.generation(slug) or 0
    seen = Seen(reducers.removing(order, at, slug=slug, platform_id=ctx.settings.platform_id, asker=asker, lost=lost))
    preview = await ctx.store.change_preview(slug, seen)
    if held := seen.displaced(preview, asker, at):
        entry = {"action": "claim.forced", "by": "teardown", "slug": slug, "session_id": asker.session_id}
        ctx.reporter.audit(entry | {"displaced": held.model_dump(mode="json")})
    return await finish(ctx, runner, preview)


async def retire(ctx: Context, runner: Runner, slug: str, check: Check) -> Removed:
    """Remove a preview that nobody wants any more, if that is still so when its record is changed.

    Unlike a teardown that somebody asks for, it ends no deploy that was accepted meanwhile.

    Raises:
        StillWanted: `check` does not want it removed (any more).
    """
    return await finish(ctx, runner, await ctx.store.change_preview(slug, retiring(check)))


async def finish_teardown(ctx: Context, runner: Runner, slug: str) -> None:
    """Carry out what another process had begun, unless the preview was deployed since."""
    preview = await ctx.store.get_preview(slug)
    if preview is not None and preview.state is PreviewState.REMOVING and preview.removed_at is None:
        await finish(ctx, runner, preview)


async def finish(ctx: Context, runner: Runner, preview: PreviewRecord) -> Removed:
    """Do what a record that says `removing` wants, from the beginning or from where a killed process left it."""
    slug, order, known = preview.slug, preview.newest.order, preview.removed_at is None
    for deploy_id in runner.on_slug(slug):
        if runner.accepted_before(deploy_id, order):
            runner.interrupt(deploy_id, torn_down(slug))
            await runner.decided(deploy_id)
    async with runner.lock(slug):
        present = await ctx.store.get_preview(slug)
        overtaken = present is not None and present.newest.order != order
        told = ctx.platform.generation(slug) is not None
        removed = await _removed(ctx, slug, preview.generation if known or overtaken or told else None)
        if known:
            await ctx.store.change_preview(slug, reducers.removed(order, now()))
    return removed


async def _removed(ctx: Context, slug: str, up_to: int | None) -> Removed:
    """Remove it, with some tries; nothing of a deploy that was accepted after the teardown is touched."""
    for pause in (*PAUSES, None):
        try:
            return await ctx.platform.teardown(slug, up_to)
        except PreviewError as error:
            if pause is None or not isinstance(error, Temporary):
                raise Permanent(
                    Code.TEARDOWN_FAILED,
                    f"Not everything of {slug} could be removed: {error.message}",
                    reason=error.reason,
                    hint="Ask for the teardown again.",
                    evidence=error.evidence,
                    retryable=True,
                ) from error
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")
