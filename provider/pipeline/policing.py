"""What the policy says of a deploy: refused, held for an approval, or let through within bounds."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from provider.errors import Code, Permanent
from provider.models import DeployRecord, PreviewOutline, PreviewRecord, PreviewState, RequestFields
from provider.pipeline.context import Context
from provider.platforms import dockerfile
from provider.policy import Asked, Breach, Counts, Decision, decide
from provider.policy.decide import previews, time_to_live
from provider.policy.grammar import Rule
from provider.spec import Spec

MAX_DOCKERFILE_BYTES = 1 << 20


def check_repository(ctx: Context, request: RequestFields) -> None:
    """Refuse what the policy denies whatever the commit says, before anything is fetched. Raises `policy_denied`."""
    if (policy := ctx.policy.current) is not None:
        rule = policy.rule_for(request.repo_full_name, request.branch)
        if rule.action == "deny":
            raise _denied(Decision("deny", rule), request)


def counting(ctx: Context, request: RequestFields) -> AbstractAsyncContextManager[object]:
    """What to hold from `judged` until the preview has its record, so that nobody here counts in between."""
    policy = ctx.policy.current
    counted = policy is not None and _counted(policy.rule_for(request.repo_full_name, request.branch))
    return ctx.policy.counting if counted else nullcontext()


async def judged(ctx: Context, record: DeployRecord, parsed: Spec) -> Decision | None:
    """What the policy says, None where there is none. Raises `policy_denied`."""
    policy, request = ctx.policy.current, record.request
    if policy is None:
        return None
    rule = policy.rule_for(request.repo_full_name, request.branch)
    if policy.tells_branches_apart and not record.approved:
        await _check_branch(ctx, record)
    images = await _images(ctx, record, parsed) if rule.base_images is not None else ()
    decision = decide(policy, Asked.of(request, parsed, images), await _counts(ctx, record, rule))
    if decision.action == "deny":
        raise _denied(decision, request)
    return decision


def bound(ctx: Context, record: DeployRecord, rule: Rule, preview: PreviewRecord | None) -> DeployRecord:
    """The record with what the rule sets: its egress, and a time to live where the usual one would be too long."""
    asked = record.request.ttl_seconds
    if asked is None:
        before = preview.ttl_seconds if preview is not None and preview.removed_at is None else None
        usual = ctx.settings.preview_ttl_seconds if before is None else before
        asked = rule.limits.ttl_seconds if time_to_live(rule, usual) is not None else None
    request = record.request.model_copy(update={"ttl_seconds": asked})
    return record.model_copy(update={"egress": rule.egress, "request": request})


async def confirm(ctx: Context, record: DeployRecord, rule: Rule, preview: PreviewRecord) -> None:
    """Refuse a new preview that is one too many after all: another provider may have let one through meanwhile.

    Two that see each other are both refused: a limit is never passed. Raises `policy_denied`.
    """
    is_new = preview.current is None and preview.last_good is None
    if record.approved or not is_new or not _counted(rule):
        return
    if breaches := previews(rule, await _counts(ctx, record, rule, new=True)):
        raise _denied(Decision("deny", rule, breaches), record.request)


def base_images(ctx: Context, record: DeployRecord) -> tuple[str, ...] | None:
    """The registries that a build may take base images from; None: any, as without a policy or after an approval."""
    policy, request = ctx.policy.current, record.request
    if policy is None or record.approved:
        return None
    return policy.rule_for(request.repo_full_name, request.branch).base_images


def check_time_to_live(ctx: Context, preview: PreviewRecord, seconds: int) -> None:
    """Refuse a time to live that the policy does not give. Raises `policy_denied`."""
    if (policy := ctx.policy.current) is not None:
        rule = policy.rule_for(preview.repo_full_name, preview.branch)
        if (breach := time_to_live(rule, seconds)) is not None:
            raise _refusal(rule, (breach,), f"ttl_seconds of {preview.slug}")


def would_wait(decision: Decision) -> tuple[str, ...]:
    """A warning for whoever only asks what would be, where the deploy would wait."""
    why = "; ".join(map(str, decision.breaches)) or "as everything that it is about"
    held = f"the policy's rule {decision.rule.name!r} would hold it for an approval: {why}"
    return (held,) if decision.action == "hold" else ()


def details(decision: Decision) -> dict[str, object]:
    """For programs: the rule, and each limit with what is allowed and what was asked."""
    return {"rule": decision.rule.name, "breaches": [as_data(one) for one in decision.breaches]}


def as_data(breach: Breach) -> dict[str, str]:
    """A breach as a record keeps it."""
    return {"limit": breach.limit, "allowed": breach.allowed, "asked": breach.asked}


async def _images(ctx: Context, record: DeployRecord, parsed: Spec) -> tuple[str, ...]:
    """The images that the commit's Dockerfile needs. Raises `policy_denied` where that can't be told."""
    request, sha, entrypoint = record.request, str(record.commit_sha), parsed.body.entrypoint
    await ctx.source.resolve(request.repo_full_name, request.branch, sha, request.installation_id)
    content = await ctx.source.read(request.repo_full_name, sha, entrypoint.path, MAX_DOCKERFILE_BYTES)
    try:
        return dockerfile.images_as_is((content or b"").decode(errors="replace"), dict(entrypoint.args or {}))
    except dockerfile.NotAllowed as refused:
        message = f"The policy limits base images, and {entrypoint.path} can't be checked: {refused}"
        raise Permanent(Code.POLICY_DENIED, message, reason=refused.reason, hint=refused.hint) from None


async def _check_branch(ctx: Context, record: DeployRecord) -> None:
    """Refuse a commit that is not on the branch by whose rule it is to be judged. Raises `policy_denied`."""
    request, sha = record.request, str(record.commit_sha)
    named = request.commit_sha == sha  # a short sha was looked up on the branch, and its head is on it
    if named and not await ctx.source.is_on_branch(
        request.repo_full_name, request.branch, sha, request.installation_id
    ):
        raise Permanent(
            Code.POLICY_DENIED,
            f"The policy tells branches apart, and {sha[:12]} is not on branch {request.branch}.",
            reason="CommitNotOnBranch",
            hint="Name the branch that the commit is on.",
            evidence=(f"branch {request.branch}", f"commit {sha}"),
        )


def _counted(rule: Rule) -> bool:
    return rule.limits.previews_per_repository is not None or rule.limits.previews_per_session is not None


async def _counts(ctx: Context, record: DeployRecord, rule: Rule, *, new: bool = False) -> Counts:
    """The other previews of the repository and of the session; None where the preview is counted there already.

    `new`: the preview is to be counted as a new one, whatever its record says.
    """
    if not _counted(rule):
        return Counts()
    request, present = record.request, {one.slug: one for one in await ctx.store.previews()}
    own = present.pop(str(record.slug), None)
    others = [one for one in present.values() if _takes_room(one)]
    repo = request.repo_full_name.casefold()
    of_repository = sum(one.repo_full_name.casefold() == repo for one in others)
    of_session = sum(one.session_id == request.session_id for one in others)
    known = own is not None and _takes_room(own) and not new
    same = known and own is not None and request.session_id in (None, own.session_id)
    return Counts(None if known else of_repository, None if same else of_session)


def _takes_room(preview: PreviewOutline) -> bool:
    """Whether anything of it runs, or is about to."""
    if preview.current is not None or preview.last_good is not None:
        return preview.state is not PreviewState.REMOVING
    return preview.state is PreviewState.PROVISIONING


def _denied(decision: Decision, request: RequestFields) -> Permanent:
    return _refusal(decision.rule, decision.breaches, f"{request.repo_full_name}, branch {request.branch}")


def _refusal(rule: Rule, breaches: tuple[Breach, ...], what: str) -> Permanent:
    reason = "BeyondLimit" if breaches else "Denied"
    lines = tuple(map(str, breaches))
    return Permanent(
        Code.POLICY_DENIED,
        f"The policy's rule {rule.name!r} denies {what}" + (f": {'; '.join(lines)}." if lines else "."),
        reason=reason,
        hint="Ask for no more than is allowed, or have the policy changed by whoever runs the platform.",
        evidence=lines,
        details={"policy": details(Decision("deny", rule, breaches))},
    )
