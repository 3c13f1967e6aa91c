"""What the client gives back: typed answers, and the errors that it raises.

ClientError                  everything that the client raises
├── BusUnreachable           no connection to NATS, or NATS refuses what we ask of it
├── NoProvider               the bus works, but no provider listens below the prefix
├── TimedOut                 no answer in time; a deploy may still go on
├── BadAnswer                something answered, but not in the contract's form
└── PreviewFailed            the provider's answer is a failure; has every field of the failure form
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from provider.errors import CODES, Code, Whose


class ClientError(Exception):
    """Everything that this module raises."""


class BusUnreachable(ClientError):
    """There is no connection to NATS, or NATS refuses what we ask of it."""


class NoProvider(ClientError):
    """No provider listens below the subject prefix."""


class TimedOut(ClientError):
    """No answer came in time. A deploy may still go on: ask again with the same `deploy_id`."""

    def __init__(self, message: str, deploy_id: str | None = None) -> None:
        super().__init__(message)
        self.deploy_id = deploy_id


class BadAnswer(ClientError):
    """Something answered, but not in the contract's form."""


# ---------------------------------------------------------------------------- answers


class Answer(BaseModel):
    """Base of what comes back. Fields that a later provider adds are kept, never an error."""

    model_config = ConfigDict(frozen=True, extra="allow")
    _reply: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, reply: dict[str, Any]) -> Self:
        """The answer that a reply's JSON is. Raises BadAnswer."""
        try:
            answer = cls.model_validate(reply)
        except ValidationError as error:
            where = ", ".join(".".join(str(part) for part in item["loc"]) for item in error.errors())
            raise BadAnswer(f"the provider's answer has unexpected values in: {where}") from error
        answer._reply = reply
        return answer

    @property
    def reply(self) -> dict[str, Any]:
        """The reply's JSON, exactly as it came."""
        return self._reply


class Deployed(Answer):
    """A deploy that succeeded. Fields that are not known yet (`wait="accepted"`, a dry run) are empty."""

    deploy_id: str = ""
    slug: str = ""
    url: str = ""
    image: str = ""
    job_name: str = ""
    commit_sha: str = ""
    digest: str = ""
    built: bool | None = None
    timings: dict[str, float] = {}
    checks: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


class TornDown(Answer):
    """What a teardown removed; nothing, if nothing was there."""

    slug: str
    deleted: tuple[str, ...] = ()
    also_deleted: tuple[str, ...] = ()


class Validated(Answer):
    """What a deploy of this would make."""

    slug: str
    url: str = ""
    spec: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    manifests: tuple[dict[str, Any], ...] = ()


class Record(Answer):
    """A preview's or a deploy's record, without secrets; the rest of its fields are in `reply`."""

    slug: str | None = None
    deploy_id: str | None = None
    repo_full_name: str | None = None
    branch: str | None = None
    commit_sha: str | None = None
    url: str | None = None
    state: str | None = None
    phase: str | None = None
    updated_at: datetime | None = None


class Look(Answer):
    """What `introspect` shows, or with `follow` one message of it: `type` is look, logs, build_logs or heartbeat."""

    type: str = "look"
    slug: str | None = None
    deploy_id: str | None = None
    status: dict[str, Any] = Field(default_factory=dict)
    phases: tuple[dict[str, Any], ...] = ()
    pods: tuple[dict[str, Any], ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    logs: tuple[str, ...] = ()
    build_logs: tuple[str, ...] = ()
    truncated: dict[str, str] = Field(default_factory=dict)
    lines: tuple[str, ...] = ()


class Listing(Answer):
    """One page of previews; `next` continues it (as `after`), None at the end."""

    previews: tuple[Record, ...] = ()
    next: str | None = None


class Cancelled(Answer):
    """A deploy that was told to stop; `cancelled` is False when it had ended otherwise by then."""

    deploy_id: str | None = None
    slug: str | None = None
    cancelled: bool = True


class Decided(Answer):
    """What was decided of a deploy that waited for an approval; `decision` is approved or rejected."""

    deploy_id: str
    slug: str | None = None
    commit_sha: str | None = None
    decision: str
    by: str
    at: datetime
    warnings: tuple[str, ...] = ()


class Tenure(Answer):
    """Whose a preview is, and until when it lives; `claim` is `{session_id, expires_at}` or None."""

    slug: str
    session_id: str | None = None
    claim: dict[str, Any] | None = None
    last_access: datetime | None = None
    expires_at: datetime | None = None
    warnings: tuple[str, ...] = ()


class Event(Answer):
    """One thing that happened to a deploy (contract.md: "An event")."""

    event_id: str
    slug: str | None = None
    deploy_id: str
    at: datetime
    type: str
    phase: str | None = None
    data: dict[str, Any] = {}


class FailureForm(Answer):
    """The contract's failure form. `whose` and `retryable` follow from the code where the reply lacks them."""

    code: str
    message: str
    slug: str | None = None
    deploy_id: str | None = None
    phase: str | None = None
    reason: str | None = None
    hint: str | None = None
    retryable: bool | None = None
    whose: str | None = None
    evidence: tuple[str, ...] | None = None
    log_tail: tuple[str, ...] | None = None
    details: dict[str, Any] | None = None
    still_serving: str | None = None
    warnings: tuple[str, ...] | None = None


class PreviewFailed(ClientError):
    """The provider's answer is a failure.

    Args:
        form: the failure form; its fields are this error's attributes, absent lists being empty.
    """

    def __init__(self, form: FailureForm) -> None:
        super().__init__(f"{form.code}: {form.message}")
        known = CODES[Code(form.code)] if form.code in CODES else None
        self.reply = form.reply
        self.code = form.code
        self.message = form.message
        self.slug = form.slug
        self.deploy_id = form.deploy_id
        self.phase = form.phase
        self.reason = form.reason
        self.hint = form.hint
        self.retryable = form.retryable if form.retryable is not None else bool(known and known.retryable)
        self.whose = form.whose or (known.whose if known else Whose.PLATFORM).value
        self.evidence = form.evidence or ()
        self.log_tail = form.log_tail or ()
        self.details = form.details or {}
        self.still_serving = form.still_serving
        self.warnings = form.warnings or ()
