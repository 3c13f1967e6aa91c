"""From a check that failed, at the candidate or at the public URL, to the cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from provider.diagnose.answers import CHECKS, INGRESS, NO_ANSWER
from provider.diagnose.health import HEALTH
from provider.diagnose.table import Finding, Match
from provider.errors import Code, Whose


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check that failed to the end.

    Args:
        name: what was asked, `GET /path`.
        url: where.
        expected, got: the first thing that was wrong, or why there was no answer.
        answered: whether there was an answer.
        public: it went through the ingress; else to the app itself.
        connect: what was connected to instead of what DNS says, "" for nothing.
        field: the field that asked for it: of the spec, or of the request.
        protocol: spec.runtime.protocol.
        answers: what each attempt got.
        attempts: how many there were.
    """

    name: str
    url: str
    expected: str
    got: str
    answered: bool
    public: bool
    field: str
    connect: str = ""
    protocol: str = "http"
    answers: Sequence[str] = ()
    attempts: int = 1


def cause(check: Check) -> Finding:
    """Why it failed."""
    where = "public URL" if check.public else "candidate"
    found = _find(check)
    host = urlsplit(check.url).hostname or ""
    facts = {
        "check": check.name,
        "fix": check.field,
        "host": host,
        "domain": host.partition(".")[2],
        "connect": check.connect or f"what {host} resolves to",
        "protocol": check.protocol,
        "port": "spec.runtime.port",
        "path": check.name.partition(" ")[2],
        "field": check.field,
        "timeout": "5",
    }
    wrong = f"{check.name} expected {check.expected}, but got {check.got}"
    return Finding(
        code=Code.VERIFY_FAILED,
        reason=found.case.reason if found is not None else "CheckFailed" if check.answered else "NoAnswer",
        message=f"{check.name} at the {where} expected {check.expected}, but got {check.got}.",
        hint=found.hint(facts) if found is not None else f"{wrong}: correct what the app answers, or {check.field}.",
        evidence=(check.url, f"{check.attempts} attempts", *check.answers),
        whose=found.case.whose if found is not None else _whose(check),
        retryable=found.case.retryable if found is not None else False,
    )


def _find(check: Check) -> Match | None:
    if not check.answered:
        return NO_ANSWER.find([check.got]) if check.public else HEALTH.find([check.got])
    return (INGRESS.find([check.got]) if check.public else None) or CHECKS.find([check.got])


def _whose(check: Check) -> Whose:
    return Whose.PLATFORM if check.public and not check.answered else Whose.USER
