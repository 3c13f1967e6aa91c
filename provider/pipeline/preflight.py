"""preflight: what a deploy would do, found out without doing any of it."""

from __future__ import annotations

from typing import Any

from provider.models import DeployRecord, now
from provider.pipeline import policing
from provider.pipeline.admit import check_request
from provider.pipeline.context import Context
from provider.pipeline.resolve import resolve
from provider.pipeline.revision import dry_revision
from provider.store import reducers


async def preflight(ctx: Context, record: DeployRecord) -> tuple[DeployRecord, tuple[dict[str, Any], ...]]:
    """The record as `resolve` and the checks of `admit` leave it, and the manifests for an image of zeros.

    Nothing is written: the record exists only in memory.
    """
    resolved = await resolve(ctx, record)
    parsed = ctx.spec_of(resolved)
    warnings = check_request(ctx, resolved, parsed)
    preview = await ctx.store.get_preview(str(resolved.slug))
    if (decision := await policing.judged(ctx, resolved, parsed)) is not None:
        resolved = policing.bound(ctx, resolved, decision.rule, preview)
        warnings += policing.would_wait(decision)
    after = preview.newest.order + 1 if preview is not None else 1
    reducers.admitted(resolved.model_copy(update={"order": after}), ctx.url(str(resolved.slug)), "", now())(preview)
    revision = dry_revision(ctx, resolved)
    notes = await ctx.platform.admit(revision)
    return resolved.model_copy(update={"warnings": (*resolved.warnings, *warnings, *notes)}), revision.manifests
