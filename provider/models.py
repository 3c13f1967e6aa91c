"""What the parts hand to each other: requests, records, outcomes, reports. No I/O.

Records are versioned and frozen; a change makes a new one. Secrets have a type of their own whose
`repr` and JSON are `***`, and a record holds only their names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from provider import names
from provider.errors import Code, PreviewError, Whose

RECORD_VERSION = 1
LOG_TAIL_LINES = 40
MAX_LINE_CHARS = 1000
MAX_EVIDENCE = 200
MAX_ACCEPTANCE_BYTES = 64 * 1024
IMAGES_KEPT = 20


class Secret(SecretStr):
    """A value that never shows: `repr`, `str` and JSON are `***`."""

    def _display(self) -> str:
        return "***" if self.get_secret_value() else ""


class Frozen(BaseModel):
    """Base of everything here: immutable, and a mistyped field name is an error in our own code."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tolerant(BaseModel):
    """Base of what is read back from the store: a field that a later provider added is no error."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def clipped(lines: Iterable[str], most: int) -> tuple[str, ...]:
    """The last `most` lines, each shortened: what an app prints must not make a record too large to store."""
    return tuple(line[:MAX_LINE_CHARS] for line in tuple(lines)[-most:])


def digest_of(value: object) -> str:
    """A stable sha256 hex digest of JSON-able data."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


# ----------------------------------------------------------------------------- requests

RepoName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\.[A-Za-z0-9_-]+)*/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$", max_length=200
    ),
]
HostName = Annotated[
    str,
    StringConstraints(
        to_lower=True,
        max_length=253,
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
    ),
]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
DeployId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
SessionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
"""One token of a NATS subject: a dot or a wildcard would tell another session."""


class AcceptanceCheck(Frozen):
    """One check of the running preview, asked over HTTP.

    `status` is the expected status (default: below 400); `header` maps response header names to
    expected values; `json` is a value that the body's JSON must contain (objects: at least these keys).
    """

    path: Annotated[str, StringConstraints(pattern=r"^/[^\s\x00-\x1f\x7f]*$", max_length=2048)]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    body_contains: Annotated[str, StringConstraints(max_length=4096)] | None = None
    body_matches: Annotated[str, StringConstraints(max_length=1024)] | None = None
    header: dict[HeaderName, str] | None = None
    json_: Any = Field(None, alias="json")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class RequestFields(Tolerant):
    """What a provision request says, without its secret values."""

    repo_full_name: str
    branch: str
    preview_yaml: str | None = None
    commit_sha: str | None = None
    installation_id: int | None = None
    alias_hosts: tuple[str, ...] = ()
    session_id: str | None = None
    notify: bool = False
    acceptance: tuple[AcceptanceCheck, ...] = ()
    wait: Literal["ready", "accepted"] = "ready"
    ttl_seconds: int | None = None
    budget_seconds: float | None = None
    force: bool = False


class StoredRequest(RequestFields):
    """A request as a record keeps it: of the secrets only the names and a keyed checksum."""

    secret_names: tuple[str, ...] = ()
    extra_env_names: tuple[str, ...] = ()
    secrets_checksum: str = ""

    def fingerprint(self) -> str:
        """A hash of what is asked for: two requests with the same `deploy_id` must agree in it.

        How the caller wants to be answered is no part of it.
        """
        return digest_of(self.model_dump(mode="json", by_alias=True, exclude={"wait"}))


class SecretValues(Frozen):
    """The inline secrets of one request. Never stored in a record."""

    secrets: dict[str, Secret] = {}
    extra_env: dict[str, Secret] = {}

    def __bool__(self) -> bool:
        return bool(self.secrets or self.extra_env)


MAX_SECRETS = 200
MAX_SECRET_BYTES = 64 * 1024
MAX_ALL_SECRETS_BYTES = 256 * 1024
MAX_SPEC_BYTES = 128 * 1024
MAX_TTL_SECONDS = 10 * 365 * 24 * 3600


def _compiles(pattern: str) -> str:
    import re2  # only who sends an expression pays for it

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options=options)
    except re2.error:
        raise ValueError("a regular expression of RE2's syntax") from None
    return pattern


def _branch(text: str) -> str:
    if not names.is_branch(text):
        raise ValueError("a valid git branch name without refs/heads/")
    return text


def _fits_a_record(text: str) -> str:
    # A larger spec is refused by the spec's own loader at 64 KiB; this bound keeps the record storable.
    if len(text.encode()) > MAX_SPEC_BYTES:
        raise ValueError(f"at most {MAX_SPEC_BYTES} bytes")
    return text


def _env_value(value: Secret) -> Secret:
    text = value.get_secret_value()
    if "\0" in text or len(text.encode()) > MAX_SECRET_BYTES:
        raise ValueError(f"a string of at most {MAX_SECRET_BYTES} bytes without NUL")
    return value


EnvValue = Annotated[Secret, AfterValidator(_env_value)]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$", max_length=1024)]


class RequestedCheck(AcceptanceCheck):
    """An acceptance check as it may be asked for: bounded, and its expression compiles."""

    body_matches: Annotated[str, StringConstraints(max_length=1024), AfterValidator(_compiles)] | None = None
    header: Annotated[dict[HeaderName, HeaderValue], Field(max_length=20)] | None = None


class ProvisionRequest(RequestFields):
    """A provision request as it came over the bus, every field within the contract's limits.

    Lives only in memory: what is kept of it is a `StoredRequest` and staged `SecretValues`.
    """

    model_config = ConfigDict(strict=True, hide_input_in_errors=True, allow_inf_nan=False)

    repo_full_name: RepoName
    branch: Annotated[str, AfterValidator(_branch)]
    preview_yaml: Annotated[str, AfterValidator(_fits_a_record)] | None = None
    commit_sha: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{7,40}$", to_lower=True)] | None = None
    installation_id: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    alias_hosts: Annotated[tuple[HostName, ...], Field(max_length=20)] = ()
    session_id: SessionId | None = None
    acceptance: Annotated[tuple[RequestedCheck, ...], Field(max_length=50)] = ()
    ttl_seconds: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] | None = None
    budget_seconds: Annotated[float, Field(ge=1, le=1140)] | None = None
    secret_values: Annotated[dict[SecretName, EnvValue], Field(max_length=MAX_SECRETS)] = {}
    extra_env: Annotated[dict[EnvName, EnvValue], Field(max_length=MAX_SECRETS)] = {}
    deploy_id: DeployId | None = None
    dry_run: bool = False
    reply_to: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][^\s.*>]*(\.[^\s.*>]+)*$", max_length=255)] | None
    ) = None

    @model_validator(mode="after")
    def _checks_fit_a_record(self) -> Self:
        size = sum(len(check.model_dump_json(by_alias=True, exclude_none=True)) for check in self.acceptance)
        if size > MAX_ACCEPTANCE_BYTES:
            raise ValueError(f"acceptance has {size} bytes, at most {MAX_ACCEPTANCE_BYTES} are allowed")
        return self

    @model_validator(mode="after")
    def _secrets_fit_a_bundle(self) -> Self:
        values = (*self.secret_values.values(), *self.extra_env.values())
        if sum(len(value.get_secret_value().encode()) for value in values) > MAX_ALL_SECRETS_BYTES:
            raise ValueError(f"secret_values and extra_env together at most {MAX_ALL_SECRETS_BYTES} bytes")
        return self


# ------------------------------------------------------------------------------ phases


class Phase(StrEnum):
    """The steps of a deploy, in order; `restore` only after a failure at or past `deploy`."""

    RESOLVE = "resolve"
    ADMIT = "admit"
    BUILD = "build"
    DEPLOY = "deploy"
    ROLLOUT = "rollout"
    VERIFY = "verify"
    RESTORE = "restore"
    PUBLISH = "publish"


class PhaseTiming(Tolerant):
    """When a phase began and how long it took (None while it runs)."""

    phase: Phase
    started_at: datetime
    seconds: float | None = None


class Check(Tolerant):
    """One check of what is served: its last attempt, and in `answers` what each attempt got."""

    name: str
    url: str
    ok: bool
    status: int | None = None
    expected: str = ""
    got: str = ""
    attempts: int = 1
    answers: tuple[str, ...] = ()
    interval_seconds: float | None = None
    deadline_seconds: float | None = None


class Failure(Tolerant):
    """Why a deploy failed, as a record keeps it."""

    code: Code
    message: str
    phase: Phase | None = None
    reason: str | None = None
    hint: str | None = None
    retryable: bool = False
    whose: Whose = Whose.USER
    evidence: tuple[str, ...] = ()
    log_tail: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: PreviewError, phase: Phase | None) -> Failure:
        """The failure that `error` in `phase` is."""
        return cls(
            code=error.code,
            message=error.message[: 4 * MAX_LINE_CHARS],
            phase=phase,
            reason=error.reason,
            hint=error.hint,
            retryable=error.retryable,
            whose=error.whose,
            evidence=clipped(error.evidence, MAX_EVIDENCE),
            log_tail=clipped(error.log_tail, LOG_TAIL_LINES),
        )


# ----------------------------------------------------------------------------- records


class Bundle(Tolerant):
    """A generation's immutable secret bundle: its name and a keyed hash of its content."""

    name: str
    checksum: str
    keys: tuple[str, ...] = ()


class Revision(Tolerant):
    """What runs, or ran last and well: enough to put it back without git, build or registry look-ups."""

    generation: int
    deploy_id: str
    commit_sha: str
    branch: str
    image: str
    digest: str
    inputs: str
    bundle: Bundle | None = None
    manifests: tuple[dict[str, Any], ...]
    made_at: datetime


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


class PreviewRecord(Tolerant):
    """One preview. Changed only by `store.change_preview` with one of the reducers there."""

    version: int = RECORD_VERSION
    platform_id: str
    slug: str
    repo_full_name: str
    branch: str
    url: str
    state: PreviewState
    generation: int = 0
    newest: Newest
    current: Revision | None = None
    last_good: Revision | None = None
    failure: Failure | None = None
    images: tuple[BuiltImage, ...] = ()
    alias_hosts: tuple[str, ...] = ()
    claim: Claim | None = None
    session_id: str | None = None
    ttl_seconds: int | None = None
    last_access: datetime
    anchor_id: str | None = None
    created_at: datetime
    updated_at: datetime
    removed_at: datetime | None = None


class Owner(Tolerant):
    """The provider instance that runs a deploy, and its epoch."""

    instance: str
    epoch: int


class Waiter(Tolerant):
    """Somebody who waits for the answer: where it goes, and until when it is repeated."""

    reply: str
    deadline: datetime
    answered: bool = False


class DeployRecord(Tolerant):
    """One deploy. Written only by the runner that owns it.

    `order` is the KV revision at which the record was created; None only between creation and first save.
    """

    version: int = RECORD_VERSION
    platform_id: str
    deploy_id: str
    order: int | None = None
    owner: Owner
    fingerprint: str
    staged: str = ""
    request: StoredRequest
    waiters: tuple[Waiter, ...] = ()
    joins: str | None = None
    created_at: datetime
    deadline: datetime
    phase: Phase = Phase.RESOLVE
    timings: tuple[PhaseTiming, ...] = ()
    slug: str | None = None
    commit_sha: str | None = None
    spec_text: str | None = None
    build_inputs: str = ""
    inputs: str = ""
    generation: int = 0
    bundle: Bundle | None = None
    digest: str | None = None
    built: bool = False
    revision: Revision | None = None
    applied: bool = False
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    report: Report | None = None
    finished_at: datetime | None = None

    @property
    def answer_id(self) -> str:
        """The deploy id that answers carry: a repeated request has a record `<deploy_id>.<n>` of its own."""
        return self.deploy_id.partition(".")[0]


class Report(Tolerant):
    """The final answer of a deploy: success or failure form of the contract, in one model."""

    ok: bool
    deploy_id: str
    slug: str | None = None
    url: str | None = None
    image: str | None = None
    job_name: str | None = None
    commit_sha: str | None = None
    digest: str | None = None
    built: bool | None = None
    timings: dict[str, float] | None = None
    checks: tuple[Check, ...] | None = None
    warnings: tuple[str, ...] = ()
    code: Code | None = None
    message: str | None = None
    phase: Phase | None = None
    reason: str | None = None
    hint: str | None = None
    retryable: bool | None = None
    whose: Whose | None = None
    evidence: tuple[str, ...] | None = None
    log_tail: tuple[str, ...] | None = None
    still_serving: str | None = None

    def wire(self) -> dict[str, Any]:
        """The reply as JSON-able data: absent fields are left out, except a failure's `still_serving`."""
        body = self.model_dump(mode="json", exclude_none=True)
        if not self.ok:
            body.setdefault("still_serving", None)
        return body


class EventType(StrEnum):
    """Types of an event (contract.md)."""

    PHASE_STARTED = "phase.started"
    PHASE_FINISHED = "phase.finished"
    LOG = "log"
    WARNING = "warning"
    STATE = "state"


class Event(Frozen):
    """One thing that happened to a deploy."""

    event_id: str
    slug: str | None
    deploy_id: str
    at: datetime
    type: EventType
    phase: Phase | None = None
    data: Mapping[str, Any] = {}


DeployRecord.model_rebuild()
