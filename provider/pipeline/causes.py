"""Why a deploy ends that no phase failed: interrupted, out of time, or met by a bug."""

from __future__ import annotations

import uuid
from datetime import timedelta

import structlog

from provider.errors import Code, Permanent, PreviewError, internal_error
from provider.models import DeployRecord, Phase, PreviewOutline, PreviewState, now
from provider.store import claims

log = structlog.get_logger(__name__)

TIMEOUT_CODES = {
    Phase.RESOLVE: Code.REPO_UNREACHABLE,
    Phase.ADMIT: Code.PLATFORM_UNREACHABLE,
    Phase.BUILD: Code.JOB_TIMEOUT,
    Phase.DEPLOY: Code.PLATFORM_UNREACHABLE,
    Phase.ROLLOUT: Code.DEPLOYMENT_NOT_READY,
    Phase.VERIFY: Code.VERIFY_FAILED,
    Phase.RESTORE: Code.PLATFORM_UNREACHABLE,
    Phase.PUBLISH: Code.PLATFORM_UNREACHABLE,
}


def late(record: DeployRecord, phase: Phase, last: PreviewError | None = None, wait: float = 0.0) -> PreviewError:
    """A phase did not end in time: its own deadline passed, or the whole budget.

    Args:
        record: whose time it is.
        phase: what it was doing.
        last: what the latest attempt failed with; it says more than that time is over.
        wait: seconds for which there would have to be time yet.
    """
    if now() + timedelta(seconds=wait) >= record.deadline:
        return Permanent(
            Code.BUDGET_EXCEEDED,
            f"The deploy's time budget passed in phase {phase}.",
            reason="BudgetExceeded",
            hint="Ask again with a larger budget_seconds, or make that phase faster.",
            evidence=(str(last), *last.evidence) if last is not None else (),
        )
    if last is not None:
        return last
    return Permanent(
        TIMEOUT_CODES[phase],
        f"Phase {phase} did not end within its deadline.",
        reason="PhaseDeadline",
        hint="Ask again; if it happens again, the provider's log says what it waited for.",
        retryable=True,
    )


def superseded_by(preview: PreviewOutline) -> Permanent:
    """Why a deploy of this preview ends that is not its newest."""
    if preview.state is PreviewState.REMOVING or not preview.newest.deploy_id:
        return torn_down(preview.slug)
    return Permanent(
        Code.SUPERSEDED,
        f"Deploy {preview.newest.deploy_id} of {preview.slug} was accepted later and took this one's place.",
        reason="NewerDeploy",
        hint=f"Follow deploy {preview.newest.deploy_id} instead.",
    )


def overtaken(record: DeployRecord, preview: PreviewOutline | None) -> Permanent | None:
    """Why a deploy ends that its preview, as the watch shows it, has no room for: None while it has.

    It is not the newest any more, or another session made a claim before anything of it is applied. One that is neither
    admitted yet nor waits for an approval is left to `admit`: it may find that the newest does just what it wants.
    """
    if preview is None or record.joins is not None or not (record.generation or record.approval):
        return None
    if preview.newest.deploy_id != record.deploy_id:
        return superseded_by(preview) if preview.newest.order > (record.order or 0) else None
    # That it is the newest there says that this claim is none that it took over itself.
    held = claims.holding(preview, now()) if record.phase in (Phase.ADMIT, Phase.BUILD) else None
    return claims.refusal(preview.slug, held) if held and held.session_id != record.request.session_id else None


def torn_down(slug: str) -> Permanent:
    """Why a deploy ends whose preview is being removed."""
    return Permanent(
        Code.CANCELLED,
        f"The preview {slug} was torn down while this deploy was under way.",
        reason="TornDown",
        hint="Ask for a new deploy if the preview is still wanted.",
    )


def cancelled(how: str) -> Permanent:
    """Why a deploy ends that somebody stopped."""
    return Permanent(
        Code.CANCELLED,
        f"The deploy was stopped {how}.",
        reason="Cancelled",
        hint="Ask for a new deploy if it is still wanted.",
    )


def bug(error: BaseException) -> Permanent:
    """An answer for an exception that nobody foresaw; the log has it under the answer's id."""
    error_id = uuid.uuid4().hex[:12]
    log.error("internal_error", error_id=error_id, exc_info=error)
    return internal_error(error_id)


def not_found(what: str, name: str) -> Permanent:
    """There is no preview or deploy of that name."""
    return Permanent(
        Code.NOT_FOUND,
        f"There is no {what} {name!r}.",
        reason=f"{what.title()}NotFound",
        hint="`list` names the previews that there are.",
    )
