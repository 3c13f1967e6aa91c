"""A provision request: as it comes over the bus, and as a record keeps it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from provider import names
from provider.models.base import Frozen, Secret, Tolerant, digest_of

REPLY_SUBJECT = r"^[A-Za-z0-9_-][^\s.*>]*(\.[^\s.*>]+)*$"
"""A subject that an answer may go to: without wildcards, and none of the server's own (`$JS.…`)."""
MAX_ACCEPTANCE_BYTES = 64 * 1024

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

    secrets: dict[str, Secret] = Field(default_factory=dict)
    extra_env: dict[str, Secret] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.secrets or self.extra_env)


MAX_SECRETS = 200
MAX_SECRET_BYTES = 64 * 1024
MAX_ALL_SECRETS_BYTES = 256 * 1024
MAX_SPEC_BYTES = 128 * 1024
MAX_TTL_SECONDS = 10 * 365 * 24 * 3600
MAX_CLAIM_SECONDS = 7 * 24 * 3600


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
    secret_values: Annotated[dict[SecretName, EnvValue], Field(default_factory=dict, max_length=MAX_SECRETS)]
    extra_env: Annotated[dict[EnvName, EnvValue], Field(default_factory=dict, max_length=MAX_SECRETS)]
    deploy_id: DeployId | None = None
    dry_run: bool = False
    reply_to: Annotated[str, StringConstraints(pattern=REPLY_SUBJECT, max_length=255)] | None = None

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
