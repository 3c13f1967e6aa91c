"""From a deploy record to the revision that it runs: the one place that asks for manifests."""

from __future__ import annotations

from provider import names, render, spec
from provider.models import Bundle, DeployRecord, Origin, Revision
from provider.pipeline.context import Context

DRY_DIGEST = "sha256:" + "0" * 64
"""Stands for a digest that is not known yet."""


def revision_of(ctx: Context, record: DeployRecord, digest: str) -> Revision:
    """What the record would run, rendered for an image of that digest."""
    slug, sha, request = str(record.slug), str(record.commit_sha), record.request
    release = render.Release(
        repo_full_name=request.repo_full_name,
        branch=request.branch,
        commit_sha=sha,
        image=names.image_by_digest(ctx.settings.registry_pull_address, slug, digest),
        bundle=record.bundle,
        alias_hosts=request.alias_hosts,
        egress=record.egress,
    )
    manifests = render.render(ctx.spec_of(record), release, ctx.settings)
    return Revision(
        generation=record.generation,
        deploy_id=record.deploy_id,
        commit_sha=sha,
        branch=request.branch,
        image=names.image(ctx.settings.registry_address, slug, sha),
        digest=digest,
        inputs=record.inputs,
        bundle=record.bundle,
        manifests=manifests,
        made_at=record.created_at,  # the same whenever it is asked for: applied again, it changes nothing
        origin=Origin(
            repo_full_name=request.repo_full_name,
            installation_id=request.installation_id,
            build_inputs=record.build_inputs,
        ),
    )


def dry_revision(ctx: Context, record: DeployRecord) -> Revision:
    """What it would run, as far as that is known before it has a generation, and before anything is made for it."""
    keys = bundle_keys(ctx, record)
    bundle = Bundle(name=f"preview-secrets-{record.slug}", checksum="", keys=keys) if keys else None
    return revision_of(ctx, record.model_copy(update={"bundle": bundle}), DRY_DIGEST)


def bundle_keys(ctx: Context, record: DeployRecord) -> tuple[str, ...]:
    """What the record's bundle has: the secrets that were sent and the spec refers to, and every extra variable."""
    request = record.request
    sent = [name for name in spec.secret_refs(ctx.spec_of(record)) if name in request.secret_names]
    return tuple(sorted((*sent, *(f"{render.EXTRA_ENV_KEY}{name}" for name in request.extra_env_names))))
