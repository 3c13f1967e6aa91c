"""Records of previews and deploys, and what stands in them. Versioned; a change makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from provider.errors import Code
from provider.models.base import Tolerant
from provider.models.outcome import Check, Failure, Phase, PhaseTiming, Report
from provider.models.request import StoredRequest
from provider.models.trace import TraceContext

RECORD_VERSION = 1
IMAGES_KEPT = 20
HISTORY_KEPT = 20


class Bundle(Tolerant):
    """A generation's immutable secret bundle: its name and a keyed hash of its content."""

    name: str
    checksum: str
    keys: tuple[str, ...] = ()


class Origin(Tolerant):
    """Where a revision came from: the repository, whose credentials can read it, and what decided its build."""

    repo_full_name: str
    installation_id: int | None = None
    build_inputs: str = ""


class RevisionFields(Tolerant):
    """What a revision says but for its manifests, which are the most of it, and its origin."""

    generation: int
    deploy_id: str
    commit_sha: str
    branch: str
    image: str
    digest: str
    inputs: str
    bundle: Bundle | None = None
    made_at: datetime


class Revision(RevisionFields):
    """What runs, or ran last and well: enough to put it back without git, build or registry look-ups.

    With its `origin` (None: an older provider made it) also enough to make a record of, should that be lost.
    """

    manifests: tuple[dict[str, Any], ...]
    origin: Origin | None = None


class Newest(Tolerant):
    """The last accepted change of a preview. `order` decides; a lower one is superseded."""

    order: int
    deploy_id: str
    inputs: str = ""


class BuiltImage(Tolerant):
    """A digest that we built for these build inputs."""

    build_inputs: str
    digest: str
    image: str
    built_at: datetime


class PastDeploy(Tolerant):
    """A deploy that has ended, as its preview remembers it: `seconds` by phase; without `code` it succeeded."""

    deploy_id: str
    commit_sha: str | None = None
    branch: str
    created_at: datetime
    built: bool = False
    seconds: Mapping[Phase, float] = {}
    code: Code | None = None
    reason: str | None = None

    @classmethod
    def of(cls, record: DeployRecord, failure: Failure | None) -> PastDeploy:
        """What is remembered of a deploy that ended so."""
        return cls(
            deploy_id=record.answer_id,
            commit_sha=record.commit_sha,
            branch=record.request.branch,
            created_at=record.created_at,
            built=record.built,
            seconds={one.phase: round(one.seconds, 3) for one in record.timings if one.seconds is not None},
            code=failure.code if failure is not None else None,
            reason=failure.reason if failure is not None else None,
        )


class Claim(Tolerant):
    """The session that alone may change a preview, until `expires_at`."""

    session_id: str
    expires_at: datetime


class PreviewState(StrEnum):
    """States of a preview (contract.md, "The others")."""

    PROVISIONING = "provisioning"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"
    AWAITING_APPROVAL = "awaiting_approval"
    REMOVING = "removing"


class PreviewFields(Tolerant):
    """What a preview's record says but for what runs.

    `last_access`, `ttl_seconds` (None: the default, 0: for ever) and `claim` decide how long it lives (see
    `store.lifetime`); `warned_at` is when its end was announced; `branch_gone_at` when its branch was first seen to
    be gone; `installation_id` whose credentials can ask for that.
    """

    version: int = RECORD_VERSION
    platform_id: str
    slug: str
    repo_full_name: str
    branch: str
    url: str
    state: PreviewState
    generation: int = 0
    newest: Newest
    failure: Failure | None = None
    alias_hosts: tuple[str, ...] = ()
    claim: Claim | None = None
    session_id: str | None = None
    ttl_seconds: int | None = None
    last_access: datetime
    warned_at: datetime | None = None
    branch_gone_at: datetime | None = None
    installation_id: int | None = None
    anchor_id: str | None = None
    created_at: datetime
    updated_at: datetime
    removed_at: datetime | None = None


class PreviewOutline(PreviewFields):
    """A preview as it is listed, and kept in memory a thousand times: a tenth of its record, without what grows."""

    current: RevisionFields | None = None
    last_good: RevisionFields | None = None

    def outline(self) -> PreviewOutline:
        """No more than this of a record; its failure is without evidence and log."""
        if type(self) is PreviewOutline:
            return self
        fields = {name: getattr(self, name) for name in PreviewOutline.model_fields}
        for name in ("current", "last_good"):
            if (revision := fields[name]) is not None:
                kept = {key: getattr(revision, key) for key in RevisionFields.model_fields}
                fields[name] = RevisionFields.model_construct(**kept)
        if self.failure is not None:
            fields["failure"] = self.failure.model_copy(update={"evidence": (), "log_tail": (), "details": None})
        return PreviewOutline.model_construct(**fields)


class PreviewRecord(PreviewOutline):
    """One preview. Changed only by `store.change_preview` with one of the reducers there.

    `history`: the deploys that decided its state, the last one first.
    """

    current: Revision | None = None
    last_good: Revision | None = None
    images: tuple[BuiltImage, ...] = ()
    history: tuple[PastDeploy, ...] = ()


class Owner(Tolerant):
    """The provider instance that runs a deploy, and its epoch."""

    instance: str
    epoch: int


class Waiter(Tolerant):
    """Somebody who waits for the answer: where it goes, and until when it is repeated."""

    reply: str
    deadline: datetime
    answered: bool = False


class Verdict(Tolerant):
    """What was decided of a deploy that waited for it, by whom (as they say), and why."""

    decision: Literal["approved", "rejected", "expired"]
    by: str
    note: str | None = None
    at: datetime


class Approval(Tolerant):
    """Why and until when a deploy waits for an approval.

    `breaches` are the policy's limits that it passes, `{limit, allowed, asked}`; `budget_seconds` what was left of its
    budget when it began to wait; `answer` what whoever asked is told; `told` whether its session was.
    """

    rule: str
    breaches: tuple[dict[str, str], ...] = ()
    expires_at: datetime
    budget_seconds: float
    answer: Report
    told: bool = False
    verdict: Verdict | None = None


class DeployFields(Tolerant):
    """What may be shown of a deploy.

    `order` is the KV revision at which the record was created; None only between creation and first save.
    """

    version: int = RECORD_VERSION
    platform_id: str
    deploy_id: str
    order: int | None = None
    owner: Owner
    request: StoredRequest
    trace: TraceContext | None = None
    joins: str | None = None
    created_at: datetime
    deadline: datetime
    phase: Phase = Phase.RESOLVE
    timings: tuple[PhaseTiming, ...] = ()
    slug: str | None = None
    commit_sha: str | None = None
    build_inputs: str = ""
    inputs: str = ""
    generation: int = 0
    bundle: Bundle | None = None
    digest: str | None = None
    built: bool = False
    revision: Revision | None = None
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    egress: Literal["internet", "none"] = "internet"
    approval: Approval | None = None
    failure: Failure | None = None
    report: Report | None = None
    finished_at: datetime | None = None


class DeployRecord(DeployFields):
    """One deploy. Written only by the runner that owns it."""

    fingerprint: str
    staged: str = ""
    waiters: tuple[Waiter, ...] = ()
    spec_text: str | None = None

    @property
    def answer_id(self) -> str:
        """The deploy id that answers carry: a repeated request has a record `<deploy_id>.<n>` of its own."""
        return self.deploy_id.partition(".")[0]

    @property
    def held(self) -> bool:
        """Whether it waits for an approval."""
        waits = self.approval is not None and self.approval.verdict is None
        return waits and self.failure is None and self.report is None

    @property
    def approved(self) -> bool:
        """Whether somebody approved it, as it is."""
        verdict = self.approval.verdict if self.approval is not None else None
        return verdict is not None and verdict.decision == "approved"

    @property
    def state(self) -> PreviewState:
        """How far it is, in the words of a preview's states."""
        if self.report is None:
            return PreviewState.AWAITING_APPROVAL if self.held else PreviewState.PROVISIONING
        return PreviewState.READY if self.report.ok else PreviewState.FAILED


Approval.model_rebuild()
DeployFields.model_rebuild()
DeployRecord.model_rebuild()
