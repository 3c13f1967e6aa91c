"""How a deploy goes, and what it comes to: its phases, checks, failure, and the report that answers who asked."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from provider.errors import Code, PreviewError, Whose
from provider.models.base import MAX_LINE_CHARS, Tolerant, clipped

LOG_TAIL_LINES = 40
MAX_EVIDENCE = 200


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
    details: dict[str, Any] | None = None

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
            details=error.details or None,
        )


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
    details: dict[str, Any] | None = None
    still_serving: str | None = None

    def wire(self) -> dict[str, Any]:
        """The reply as JSON-able data: absent fields are left out, except a failure's `still_serving`."""
        body = self.model_dump(mode="json", exclude_none=True)
        if not self.ok:
            body.setdefault("still_serving", None)
        return body
