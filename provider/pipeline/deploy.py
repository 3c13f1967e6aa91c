"""deploy: the revision runs beside what serves now."""

from __future__ import annotations

from provider.models import DeployRecord, now
from provider.pipeline.context import Context
from provider.pipeline.images import remember
from provider.pipeline.revision import revision_of
from provider.store import reducers


async def deploy(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends with the revision in the record, applied.

    The preview record names revision and anchor before anything is applied, so that whatever a crash leaves can be
    found from there; an anchor that was made after a teardown is refused by the record, and goes.
    """
    slug = str(record.slug)
    wanted = revision_of(ctx, record, str(record.digest))
    anchor = await ctx.platform.anchor(slug, record.generation)
    try:
        await remember(ctx, record, reducers.deploying(record, wanted, anchor, now()))
    except BaseException:  # an interruption, too
        await ctx.platform.drop_anchor(slug)
        raise
    applied = await ctx.platform.deploy(slug, wanted, ctx.log_sink(record))
    return record.model_copy(update={"revision": applied})
