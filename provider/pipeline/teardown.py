"""Teardown: nothing of a preview is left, and nothing that is under way brings it back."""

from __future__ import annotations

from provider.models import now
from provider.pipeline.causes import torn_down
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.platforms.base import Removed
from provider.store import reducers


async def teardown(ctx: Context, runner: Runner, slug: str) -> Removed:
    """Remove everything of the preview; repeatable, and works without a record.

    The record says `removing` first: a deploy that was accepted before this is older than it from then
    on and ends, wherever it is. One that is accepted later goes on, and waits for its turn.
    """
    order = await ctx.store.next_order(slug)
    preview = await ctx.store.get_preview(slug)
    if preview is not None:
        preview = await ctx.store.change_preview(slug, reducers.removing(order, now()))
    for deploy_id in runner.on_slug(slug):
        if runner.accepted_before(deploy_id, order):
            runner.interrupt(deploy_id, torn_down(slug))
            await runner.decided(deploy_id)
    async with runner.lock(slug):
        removed = await ctx.platform.teardown(slug, preview.generation if preview is not None else None)
        if preview is not None:
            await ctx.store.change_preview(slug, reducers.removed(order, now()))
    return removed
