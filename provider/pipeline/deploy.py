"""deploy: the revision runs beside what serves now."""

from __future__ import annotations

from provider.models import DeployRecord
from provider.pipeline.context import Context
from provider.pipeline.revision import revision_of
from provider.store import reducers


async def deploy(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends with the revision in the record, applied.

    The preview record names the revision before the platform does anything, so that whatever a crash
    leaves can be found from there.
    """
    slug = str(record.slug)
    wanted = revision_of(ctx, record, str(record.digest))
    await ctx.store.change_preview(slug, reducers.deploying(record, wanted))
    applied = await ctx.platform.deploy(slug, wanted)
    return record.model_copy(update={"revision": applied})
