"""Which digest was built from which inputs: looked up, and remembered, in the preview's record."""

from __future__ import annotations

from provider import names
from provider.models import BuiltImage, DeployRecord, PreviewRecord, now
from provider.pipeline.context import Context
from provider.store import reducers
from provider.store.records import Reducer


async def known_digest(ctx: Context, record: DeployRecord, preview: PreviewRecord | None) -> str | None:
    """The digest that the preview's record names for the deploy's build inputs, if the registry still has it."""
    if preview is None:
        return None
    for image in preview.images:
        if image.build_inputs == record.build_inputs and await ctx.platform.has_image(preview.slug, image.digest):
            return image.digest
    return None


async def remember(ctx: Context, record: DeployRecord, reducer: Reducer) -> PreviewRecord:
    """Change the preview's record; in the same write it is told what the deploy has built, if it has by now."""
    slug = str(record.slug)
    if not record.built or record.digest is None:
        return await ctx.store.change_preview(slug, reducer)
    name = names.image(ctx.settings.registry_address, slug, str(record.commit_sha))
    image = BuiltImage(build_inputs=record.build_inputs, digest=record.digest, image=name, built_at=now())
    preview = await ctx.store.change_preview(slug, reducers.image_built(record, image, reducer))
    ctx.platform.forget_build(slug, record.build_inputs)
    return preview
