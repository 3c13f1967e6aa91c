"""restore: what served well before serves again, and the failed revision is out of the way."""

from __future__ import annotations

from provider.models import DeployRecord, PreviewState, Revision
from provider.pipeline.context import Context


async def restore(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Put the last good revision back, unless the whole preview is being removed."""
    preview = await ctx.preview_of(record)
    if preview is None or preview.removed_at is not None or preview.state is PreviewState.REMOVING:
        return record
    failed: Revision | None = record.revision
    if failed is None and preview.current is not None and preview.current.deploy_id == record.deploy_id:
        failed = preview.current  # named before it was applied; the apply may have been cut short
    if failed is not None:
        await ctx.platform.restore(preview.slug, record.generation, failed, preview.last_good)
    return record
