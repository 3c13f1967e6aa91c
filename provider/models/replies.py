"""Every answer of the provider, as it goes over the bus; the schemas that others get are made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from provider.errors import Code, Whose
from provider.models.base import Frozen
from provider.models.looks import EventLook, PodLook
from provider.models.outcome import Check, Phase, PhaseTiming
from provider.models.records import (
    Claim,
    DeployFields,
    DeployRecord,
    PreviewFields,
    PreviewOutline,
    PreviewRecord,
    PreviewState,
)

_ALWAYS = ConfigDict(json_schema_serialization_defaults_required=True)
"""Of an answer that has all its fields, whatever their values."""


class Reply(Frozen):
    """Base of the answers to a request that was done."""

    model_config = _ALWAYS
    ok: Literal[True] = True

    def wire(self) -> dict[str, Any]:
        """The answer as JSON-able data."""
        return self.model_dump(mode="json")


class FailureReply(Frozen):
    """Why a request was refused, or a deploy failed. `whose` has to act: the one who asked, or the platform."""

    ok: Literal[False]
    code: Code
    message: str
    reason: str | None = None
    hint: str | None = None
    retryable: bool
    whose: Whose
    evidence: tuple[str, ...] = ()
    log_tail: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] | None = None
    retry_after_seconds: float | None = None
    slug: str | None = None
    deploy_id: str | None = None
    commit_sha: str | None = None
    phase: Phase | None = None
    timings: dict[str, float] | None = None
    still_serving: str | None = None


class ProvisionReply(Frozen):
    """A preview that is up: what a `Report` says when all went well."""

    ok: Literal[True]
    url: str
    slug: str
    image: str
    job_name: str
    deploy_id: str
    commit_sha: str
    digest: str
    built: bool
    timings: dict[str, float]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]


class AcceptedReply(Reply):
    """A deploy that goes on, asked for with `wait: accepted` or through the queue."""

    accepted: Literal[True] = True
    deploy_id: str
    warnings: tuple[str, ...] = ()


class ValidateReply(Reply):
    """What a deploy of this would make."""

    slug: str
    url: str
    commit_sha: str | None
    spec: dict[str, Any]
    warnings: tuple[str, ...] = ()
    manifests: tuple[dict[str, Any], ...] = ()


class TeardownReply(Reply):
    """What was removed: only what was there."""

    slug: str
    deleted: tuple[str, ...]
    also_deleted: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class PreviewSummary(PreviewFields):
    """A preview in a list. Its failure is without evidence and log, which `status` has."""

    model_config = _ALWAYS
    commit_sha: str | None
    deploy_id: str
    expires_at: datetime | None

    @classmethod
    def of(cls, preview: PreviewOutline, expires_at: datetime | None) -> PreviewSummary:
        """The preview as a list shows it."""
        outline = preview.outline()
        fields = _fields(outline, PreviewFields) | _shown(outline, expires_at)
        return cls.model_construct(**fields)


class PreviewReply(PreviewRecord):
    """A preview's record; `commit_sha` is what serves."""

    model_config = _ALWAYS
    ok: Literal[True] = True
    commit_sha: str | None
    deploy_id: str
    expires_at: datetime | None

    @classmethod
    def of(cls, preview: PreviewRecord, expires_at: datetime | None, **more: Any) -> PreviewReply:
        """The preview's record with what follows from it, and what a subclass adds."""
        return cls.model_construct(**_fields(preview, PreviewRecord) | _shown(preview, expires_at) | more)


def _fields(record: BaseModel, kind: type[BaseModel]) -> dict[str, Any]:
    """The fields that `kind` has; not copied and not checked again, as records are frozen."""
    return {name: getattr(record, name) for name in kind.model_fields}


def _shown(preview: PreviewOutline, expires_at: datetime | None) -> dict[str, Any]:
    serving = preview.last_good
    return {
        "commit_sha": serving.commit_sha if serving is not None else None,
        "deploy_id": preview.newest.deploy_id,
        "expires_at": expires_at,
    }


class DeployReply(DeployFields):
    """A deploy's record, without what only its owner needs."""

    model_config = _ALWAYS
    ok: Literal[True] = True
    repo_full_name: str
    branch: str
    state: PreviewState

    @classmethod
    def of(cls, record: DeployRecord, **more: Any) -> DeployReply:
        """The record as it is shown, with what a subclass adds."""
        request = record.request
        named = {"repo_full_name": request.repo_full_name, "branch": request.branch, "state": record.state}
        return cls.model_construct(**_fields(record, DeployFields) | named | more)


class WaitedPreview(PreviewReply):
    """What `wait` answers of a preview; `timed_out`: it is in none of the states that were asked for."""

    timed_out: bool


class WaitedDeploy(DeployReply):
    """What `wait` answers of a deploy; `timed_out`: it is in none of the states that were asked for."""

    timed_out: bool


class ListReply(Reply):
    """One page of previews, by slug; `next` is where the following one begins (as `after`), None at the end."""

    previews: tuple[PreviewSummary, ...]
    next: str | None
    warnings: tuple[str, ...] = ()


class CancelReply(Reply):
    """A deploy that has ended; `cancelled` is false when it had otherwise by then."""

    deploy_id: str
    slug: str | None
    cancelled: bool


class TenureReply(Reply):
    """Whose a preview is, and until when it lives (None: for ever)."""

    slug: str
    session_id: str | None
    claim: Claim | None
    last_access: datetime
    expires_at: datetime | None
    warnings: tuple[str, ...] = ()


class ClaimReply(TenureReply):
    """`displaced`: the claim that was taken over; `under_way`: another session's deploy that is still finished."""

    displaced: Claim | None
    under_way: str | None


class ReleaseReply(TenureReply):
    """`released`: whether there was a claim in force."""

    released: bool


class AttachReply(TenureReply):
    """`before`: whose the preview was."""

    before: str | None


class VerdictReply(Reply):
    """What was decided of a deploy that waited for an approval, and what it was about."""

    deploy_id: str
    slug: str | None
    repo_full_name: str
    branch: str
    commit_sha: str | None
    decision: Literal["approved", "rejected", "expired"]
    by: str
    at: datetime
    warnings: tuple[str, ...] = ()


class IntrospectReply(Frozen):
    """What can be seen of a preview or deploy: the parts that were asked for; `truncated` says how to get the rest."""

    ok: Literal[True] = True
    slug: str | None
    deploy_id: str | None
    truncated: dict[str, str]
    warnings: tuple[str, ...] = ()
    status: dict[str, Any] | None = None
    phases: tuple[PhaseTiming, ...] | None = None
    pods: tuple[PodLook, ...] | None = None
    events: tuple[EventLook, ...] | None = None
    logs: tuple[str, ...] | None = None
    build_logs: tuple[str, ...] | None = None


class FirstLook(IntrospectReply):
    """The first message of a stream."""

    type: Literal["look"]
    seq: int


class LogLines(Frozen):
    """Lines of a stream, in order."""

    type: Literal["logs", "build_logs"]
    lines: tuple[str, ...]
    seq: int


class StreamSign(Frozen):
    """That a stream goes on, though there is nothing to tell, or that it has ended."""

    type: Literal["heartbeat", "end"]
    seq: int
