"""The whole error tree, and the one table of codes that callers see.

    PreviewError                 what any caller can get: code, message, reason, hint
    ├── Permanent                trying again with the same input will not help
    │   └── InvalidRequest       a request that cannot be accepted (lists every problem)
    └── Temporary                trying again after `delay` seconds may help

Clients' own exceptions (HTTP, NATS, the engine's, git's) are translated into these in
`platforms/`, `source` and `store`; nothing above those ever sees one of theirs. Anything else that
escapes is a bug: it reaches callers as `internal_error` with an id that stands in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Whose(StrEnum):
    """Who has to act: the one who asked, or whoever runs the platform."""

    USER = "user"
    PLATFORM = "platform"


class Code(StrEnum):
    """Every code that an answer can carry. Names marked *platform* in the contract are fixed."""

    BAD_REQUEST_DECODE = "bad_request_decode"
    MISSING_FIELDS = "missing_fields"
    INVALID_PREVIEW_SPEC = "invalid_preview_spec"
    TOKEN_MINT_FAILED = "token_mint_failed"  # noqa: S105 - a code, not a token
    KANIKO_CREATE_FAILED = "kaniko_create_failed"
    KANIKO_BUILD_FAILED = "kaniko_build_failed"
    JOB_TIMEOUT = "job_timeout"
    DEPLOYMENT_NOT_READY = "deployment_not_ready"
    TEARDOWN_FAILED = "teardown_failed"
    INTERNAL_ERROR = "internal_error"
    INVALID_REQUEST = "invalid_request"
    SPEC_NOT_FOUND = "spec_not_found"
    BRANCH_NOT_FOUND = "branch_not_found"
    COMMIT_NOT_FOUND = "commit_not_found"
    REPO_UNREACHABLE = "repo_unreachable"
    SLUG_TAKEN = "slug_taken"
    CLAIMED = "claimed"
    QUOTA_EXCEEDED = "quota_exceeded"
    POLICY_DENIED = "policy_denied"
    AWAITING_APPROVAL = "awaiting_approval"
    QUEUE_FULL = "queue_full"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    BUDGET_EXCEEDED = "budget_exceeded"
    IMAGE_UNPULLABLE = "image_unpullable"
    VERIFY_FAILED = "verify_failed"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    PLATFORM_UNREACHABLE = "platform_unreachable"
    UNSUPPORTED_ENTRYPOINT = "unsupported_entrypoint"
    UNSUPPORTED_FEATURE = "unsupported_feature"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - a code, not a secret
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """What a code means in general; a single error may know better (see `PreviewError`)."""

    whose: Whose
    retryable: bool
    meaning: str


def _user(meaning: str) -> CodeInfo:
    return CodeInfo(Whose.USER, False, meaning)


def _platform(meaning: str) -> CodeInfo:
    return CodeInfo(Whose.PLATFORM, True, meaning)


CODES: dict[Code, CodeInfo] = {
    Code.BAD_REQUEST_DECODE: _user("The message is not a JSON object, or it is too large."),
    Code.MISSING_FIELDS: _user("Required fields are absent; the message names them."),
    Code.INVALID_REQUEST: _user("A field has a value that is not allowed; path, value and what is allowed are named."),
    Code.INVALID_PREVIEW_SPEC: _user("`.x1agent/preview.yaml` is wrong; every mistake is listed at once."),
    Code.SPEC_NOT_FOUND: _user(
        "There is no `.x1agent/preview.yaml` at that commit; the hint holds the smallest valid one."
    ),
    Code.BRANCH_NOT_FOUND: _user("The repository has no such branch."),
    Code.COMMIT_NOT_FOUND: _user("The repository has no such commit, or a short sha is unknown or ambiguous."),
    Code.REPO_UNREACHABLE: _platform(
        "The git host did not answer (Unreachable), refused the credentials, or has no such repository."
    ),
    Code.TOKEN_MINT_FAILED: _platform("The platform's credentials endpoint gave no clone credentials."),
    Code.SLUG_TAKEN: _user("Another repository owns a preview of that name."),
    Code.CLAIMED: _user("Another session alone may change the preview now; `details.claim` has it, and until when."),
    Code.SECRET_MISSING: _user(
        "The spec refers to a secret that nobody sent (only with `MISSING_SECRETS=fail`), or a bundle was deleted."
    ),
    Code.UNSUPPORTED_ENTRYPOINT: _user("That entrypoint kind is valid, but not deployable by this provider yet."),
    Code.UNSUPPORTED_FEATURE: _user("That field or subject is valid, but not supported here yet; the field is named."),
    Code.KANIKO_CREATE_FAILED: _platform("The build could not be started."),
    Code.KANIKO_BUILD_FAILED: _user("The build failed; reason and log tail say where."),
    Code.JOB_TIMEOUT: _user("The build did not end within its deadline and was stopped."),
    Code.REGISTRY_UNREACHABLE: _platform("The image registry did not answer."),
    Code.IMAGE_UNPULLABLE: _platform("The built image could not be pulled for running."),
    Code.PLATFORM_UNREACHABLE: _platform("The container engine, its ingress or the cluster did not answer."),
    Code.DEPLOYMENT_NOT_READY: _user("The new revision did not become ready; reason and log tail say why."),
    Code.VERIFY_FAILED: _user("The new revision runs, but a check of its answers failed; expected and got are named."),
    Code.QUOTA_EXCEEDED: _user("The namespace's quota leaves no room for the preview."),
    Code.POLICY_DENIED: _user(
        "The policy (the limit, what is allowed and what was asked are named), whoever was to approve it, or a policy "
        "of the cluster refuses it."
    ),
    Code.AWAITING_APPROVAL: _user("It waits for somebody's approval; `details.approval` says why and until when."),
    Code.QUEUE_FULL: _platform("So many deploys wait already that no more are taken; `retry_after_seconds` says when."),
    Code.SUPERSEDED: _user("A deploy that was accepted later took this one's place."),
    Code.CANCELLED: _user("The deploy was stopped by `cancel` or by a teardown."),
    Code.BUDGET_EXCEEDED: CodeInfo(Whose.PLATFORM, True, "The deploy's whole time budget passed; the phase is named."),
    Code.TEARDOWN_FAILED: _platform("Some object could not be removed; teardown can be repeated."),
    Code.NOT_FOUND: _user("There is no such preview or deploy."),
    Code.CONFLICT: _user("That `deploy_id` was used for a different request."),
    Code.INTERNAL_ERROR: CodeInfo(
        Whose.PLATFORM, True, "A bug of the provider; the id in the message stands in its log."
    ),
}


class PreviewError(Exception):
    """An error that a caller may see.

    Args:
        code: the machine-readable code.
        message: one sentence for a person; never holds a secret.
        reason: a CamelCase cause within the code ("RepositoryNotFound", "ImageNotFound").
        hint: the next step for whoever has to act.
        evidence: what was observed: short lines, status codes, log excerpts.
        log_tail: last lines of the build's or app's log.
        whose, retryable: override the code's general ones.
        details: facts of this code for programs, JSON-able; the failure form has them as `details`.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        reason: str | None = None,
        hint: str | None = None,
        evidence: tuple[str, ...] = (),
        log_tail: tuple[str, ...] = (),
        whose: Whose | None = None,
        retryable: bool | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.hint = hint
        self.evidence = evidence
        self.log_tail = log_tail
        self.details = dict(details or {})
        self.whose = whose if whose is not None else CODES[code].whose
        self.retryable = retryable if retryable is not None else CODES[code].retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Permanent(PreviewError):
    """Trying again with the same input will not help."""


class InvalidRequest(Permanent):
    """A request that cannot be accepted: undecodable, incomplete, or with values not allowed."""


class Temporary(PreviewError):
    """Trying again may help; the runner does so within the phase's deadline.

    Args:
        delay: seconds to wait before the next try; None leaves it to the runner's backoff.
    """

    def __init__(self, code: Code, message: str, *, delay: float | None = None, **rest: object) -> None:
        super().__init__(code, message, **rest)  # type: ignore[arg-type]
        self.delay = delay


def internal_error(error_id: str) -> Permanent:
    """What callers see of a bug: an id that stands in the log, and nothing of the exception."""
    return Permanent(
        Code.INTERNAL_ERROR,
        f"Internal error {error_id}; the provider's log says more.",
        reason="Bug",
        hint="Tell the provider's operator the id.",
    )
