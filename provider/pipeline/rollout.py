"""rollout: the new revision is ready, or it is known why not."""

from __future__ import annotations

from provider.models import DeployRecord, Revision
from provider.pipeline.context import Context


async def rollout(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends when the revision is ready; a terminal failure ends it at once."""
    revision: Revision | None = record.revision
    assert revision is not None, "the runner goes on to rollout only after deploy"
    await ctx.platform.rollout(str(record.slug), revision, ctx.log_sink(record))
    return record
