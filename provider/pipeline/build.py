"""build: a digest for these inputs, from the records where the registry still has it, else from a build."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from provider import names
from provider.errors import Code, PreviewError
from provider.models import DeployRecord
from provider.pipeline import policing
from provider.pipeline.context import Context
from provider.pipeline.images import known_digest
from provider.platforms.base import BuildPlan, CloneCredential, Written
from provider.source import GITMODULES, submodules

MOST_TEXT = 1 << 20
"""Bytes of a Dockerfile that is read to name its lines."""


async def build(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends with a digest in the record that the registry has.

    A build waits for its place in the line, and gives it back when nothing of it runs any more; where that is not
    known, since it was interrupted or the platform is away, the deploy keeps it.
    """
    slug = str(record.slug)
    known = await known_digest(ctx, record, await ctx.store.latest_preview(slug))  # `admit` wrote it just now
    if known is None and await ctx.line.build_turn(record, ctx.clock):
        known = await known_digest(ctx, record, await ctx.store.get_preview(slug))  # built meanwhile, perhaps
    if known is not None:
        ctx.line.built(record.deploy_id)
        return record.model_copy(update={"digest": known, "built": False})
    plan = _plan(ctx, record, slug)
    digest = await _built(ctx, record, plan)
    return record.model_copy(update={"digest": digest, "built": True})


async def _built(ctx: Context, record: DeployRecord, plan: BuildPlan) -> str:
    """The digest that a build pushed; whatever happens, what it said is kept."""
    log, over = ctx.logbook.build_log(record, ctx.log_sink(record)), False
    try:
        digest = await ctx.platform.build(plan, log)
        over = True
    except PreviewError as error:
        over = error.code is not Code.PLATFORM_UNREACHABLE
        log.end()
        error.log_tail = (log.tail or error.log_tail) if error.log_tail else ()
        raise
    finally:
        if over:
            ctx.line.built(record.deploy_id)
        ctx.logbook.keep(record, log, complete=over)
    return digest


async def _credential(ctx: Context, record: DeployRecord) -> CloneCredential | None:
    """A credential for the build, which may print it."""
    found = await ctx.source.credential(record.request.installation_id)
    if found is not None:
        ctx.logbook.learn(record.deploy_id, [found.token.get_secret_value()])
    return found


async def _export(ctx: Context, record: DeployRecord, folder: Path) -> None:
    """Write the commit's tree; resolving it first fetches it again where the cache was lost meanwhile."""
    request, sha = record.request, str(record.commit_sha)
    await ctx.source.resolve(request.repo_full_name, request.branch, sha, request.installation_id)
    await ctx.source.export(request.repo_full_name, sha, folder)


async def _written(ctx: Context, record: DeployRecord, dockerfile: str) -> Written:
    """What the commit says of its build, to name the user's own lines; nothing of it where git is away."""
    request, sha = record.request, str(record.commit_sha)
    repo = request.repo_full_name
    try:
        await ctx.source.resolve(repo, request.branch, sha, request.installation_id)
        text, modules = [await ctx.source.read(repo, sha, path, MOST_TEXT) for path in (dockerfile, GITMODULES)]
    except PreviewError:
        return Written()
    return Written((text or b"").decode(errors="replace"), submodules((modules or b"").decode(errors="replace")))


def _plan(ctx: Context, record: DeployRecord, slug: str) -> BuildPlan:
    entrypoint = ctx.spec_of(record).body.entrypoint
    request, sha = record.request, str(record.commit_sha)
    return BuildPlan(
        deploy_id=record.deploy_id,
        slug=slug,
        generation=record.generation,
        repo_full_name=request.repo_full_name,
        branch=request.branch,
        commit_sha=sha,
        build_inputs=record.build_inputs,
        job_name=names.build_job(slug, sha),
        image=names.image(ctx.settings.registry_address, slug, sha),
        dockerfile=entrypoint.path,
        context=entrypoint.build_context,
        args=dict(entrypoint.args or {}),
        base_images=policing.base_images(ctx, record),
        timeout_seconds=ctx.settings.build_timeout,
        export=partial(_export, ctx, record),
        credential=partial(_credential, ctx, record),
        written=partial(_written, ctx, record, entrypoint.path),
    )
