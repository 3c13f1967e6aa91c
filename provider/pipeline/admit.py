"""admit: may this deploy happen, and as which generation? Then its secrets become a bundle."""

from __future__ import annotations

from provider import spec
from provider.errors import Code, Permanent, Whose
from provider.models import Bundle, DeployRecord, PreviewRecord, digest_of, now
from provider.pipeline import holding, policing
from provider.pipeline.context import Context
from provider.pipeline.revision import bundle_keys, dry_revision
from provider.platforms import hosts
from provider.store import reducers
from provider.store.claims import Asker, Seen
from provider.store.lifetime import Policy
from provider.store.records import Reducer


async def admit(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends with generation and bundle in the record, with `joins` when the same is under way already, or held."""
    parsed = ctx.spec_of(record)
    warned = check_request(ctx, record, parsed)
    slug = str(record.slug)
    lost = ctx.platform.generation(slug) or 0
    async with policing.counting(ctx, record.request):
        decision = await policing.judged(ctx, record, parsed)
        if decision is not None and decision.action == "hold" and not record.approved:
            preview = await ctx.store.change_preview(slug, reducers.held(record, ctx.url(slug), now(), lost))
            return holding.begun(ctx, record, decision, preview)
        if decision is not None:
            record = policing.bound(ctx, record, decision.rule, await ctx.preview_of(record))
        inputs = _inputs(record)
        preview = await _admitted(ctx, record, reducers.admitted(record, ctx.url(slug), inputs, now(), lost))
    leader = reducers.joins(preview, record)
    if leader is not None:
        return record.model_copy(update={"joins": leader, "inputs": inputs})
    if decision is not None:
        await policing.confirm(ctx, record, decision.rule, preview)
    notes = await ctx.platform.admit(dry_revision(ctx, record))
    bundle = await _bundle(ctx, record, preview)
    warnings = (*record.warnings, *warned, *notes, *Policy.of(ctx.settings).refusal(record.request.ttl_seconds))
    update = {"generation": preview.generation, "bundle": bundle, "inputs": inputs}
    return record.model_copy(update={**update, "warnings": tuple(dict.fromkeys(warnings))})


async def _bundle(ctx: Context, record: DeployRecord, preview: PreviewRecord) -> Bundle | None:
    """Make it of what was staged; a preview that came up without its secrets would be taken for a whole one."""
    wanted = spec.secret_refs(ctx.spec_of(record))
    bundle = await ctx.platform.make_bundle(
        record.staged, str(record.slug), preview.generation, wanted, _bundles(preview)
    )
    lost = sorted({*bundle_keys(ctx, record)} - {*(bundle.keys if bundle is not None else ())})
    if lost:
        raise Permanent(
            Code.SECRET_MISSING,
            "The secrets that came with the request are gone: somebody removed them while the deploy waited.",
            reason="StagedSecretsGone",
            hint="Send the request again, with secret_values and extra_env, as a new deploy.",
            evidence=tuple(f"secret:{name} is not kept any more" for name in lost),
            whose=Whose.PLATFORM,
        )
    return bundle


async def _admitted(ctx: Context, record: DeployRecord, reducer: Reducer) -> PreviewRecord:
    """Change the preview's record; a claim that `force` took over is told."""
    asker, seen, at = Asker(record.request.session_id, record.request.force), Seen(reducer), now()
    preview = await ctx.store.change_preview(str(record.slug), seen)
    if held := seen.displaced(preview, asker, at):
        entry = {"action": "claim.forced", "by": "provision", "slug": record.slug, "deploy_id": record.answer_id}
        ctx.reporter.audit(entry | {"session_id": asker.session_id, "displaced": held.model_dump(mode="json")})
    return preview


def check_request(ctx: Context, record: DeployRecord, parsed: spec.Spec) -> tuple[str, ...]:
    """Refuse what cannot be deployed; returns warnings about secrets that nobody sent."""
    spec.check_supported(parsed)
    hosts.check_reserved(record.request.alias_hosts, ctx.settings, str(record.slug))
    missing = _missing_secrets(parsed, record)
    if missing and ctx.settings.missing_secrets == "fail":
        raise Permanent(
            Code.SECRET_MISSING,
            f"Nobody sent the secrets {', '.join(missing)}.",
            reason="SecretNotSent",
            hint=f"Send {', '.join(missing)} in secret_values, or set the env names in extra_env.",
            evidence=tuple(f"secret:{name}" for name in missing),
        )
    return tuple(map(_missing_warning, missing))


def _inputs(record: DeployRecord) -> str:
    """Everything that decides the outcome; requests with the same one share a deploy that is under way."""
    request = record.request
    return digest_of(
        {
            "build": record.build_inputs,
            "spec": record.spec_text,
            "branch": request.branch,
            "secrets": request.secrets_checksum,
            "aliases": request.alias_hosts,
            "acceptance": [check.model_dump(mode="json") for check in request.acceptance],
            "egress": record.egress,
        }
    )


def _missing_secrets(parsed: spec.Spec, record: DeployRecord) -> tuple[str, ...]:
    """Referenced secrets that neither `secret_values` nor an `extra_env` of that env name gives."""
    request = record.request
    wanted = spec.secret_refs(parsed, frozenset(request.extra_env_names))
    return tuple(name for name in wanted if name not in request.secret_names)


def _missing_warning(name: str) -> str:
    return f"secret:{name} was not sent; the app gets an empty value"


def _bundles(preview: PreviewRecord) -> tuple[Bundle, ...]:
    revisions = (preview.current, preview.last_good)
    return tuple(revision.bundle for revision in revisions if revision is not None and revision.bundle is not None)
