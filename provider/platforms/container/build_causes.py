"""What a build's result means: from its state, exit code and last lines to an error with a cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provider.diagnose import builds
from provider.diagnose.images import PULL_FAILED
from provider.diagnose.table import Finding
from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.models import LOG_TAIL_LINES
from provider.platforms import pushes
from provider.platforms.base import BuildPlan, Written


def failure(result: dict[str, Any], log: list[str], plan: BuildPlan, written: Written, memory: str) -> PreviewError:
    """The error that a build's result means.

    Args:
        result: what the builder left.
        log: the log's last lines, `builds.DIAGNOSED_LINES` of them.
        plan: what was built.
        written: what the repository says of it.
        memory: what builds may use.
    """
    state, tail = result["state"], tuple(log[-LOG_TAIL_LINES:])
    if state == "timeout":
        return deadline(plan, tail)
    if state == "not_allowed":
        return not_allowed(result["reason"], result["message"], result["hint"], plan, written, tail)
    if state in {"stopped", "died", "network_failed", "builder_failed"}:
        return Temporary(
            Code.KANIKO_CREATE_FAILED,
            f"The build ended before it was done ({state}).",
            reason="BuilderEnded",
            hint="Ask again; if it happens again, look at the provider's machine: memory, disk of STATE_DIR, its log.",
            evidence=(str(result.get("error", "")),) if result.get("error") else (),
            log_tail=tail,
        )
    if state == "push_failed":
        return _not_pushed(result, log, tail)
    if state == "base_failed" and result.get("timed_out"):
        return _not_pulled(log, tail)
    found = builds.cause(
        builds.Build(
            said=_last_error(log),
            log=log,
            exit_code=result.get("exit_code"),
            pulling=state == "base_failed",
            path=plan.dockerfile,
            text=written.dockerfile,
            context=plan.context,
            memory=memory,
            submodules=written.submodules,
        )
    )
    return _tried_again(found, result) or found.error(tail)


def deadline(plan: BuildPlan, log_tail: Sequence[str]) -> PreviewError:
    """The build took too long."""
    return Permanent(
        Code.JOB_TIMEOUT,
        f"The build did not end within {plan.timeout_seconds:.0f} s and was stopped.",
        reason="BuildDeadline",
        hint=f"Make the build of {plan.dockerfile} smaller or faster (the log's tail shows where it was), or have"
        " BUILD_TIMEOUT raised.",
        log_tail=tuple(log_tail),
    )


def not_allowed(
    reason: str, message: str, hint: str, plan: BuildPlan, written: Written, log_tail: Sequence[str] = ()
) -> PreviewError:
    """The Dockerfile, or an image that it starts from, says what is not built here."""
    return Permanent(
        Code.KANIKO_BUILD_FAILED,
        message,
        reason=reason,
        hint=f"{builds.place(plan.dockerfile, written.dockerfile, message)}: {hint}",
        evidence=(message,),
        log_tail=tuple(log_tail),
    )


def _tried_again(found: Finding, result: dict[str, Any]) -> PreviewError | None:
    """Our own registry will be back; of somebody else's nobody knows, and Podman has asked it some times by now."""
    if found.reason != PULL_FAILED or not result.get("own_registry"):
        return None
    return Temporary(
        found.code,
        found.message,
        reason=found.reason,
        hint=found.hint,
        evidence=found.evidence,
        whose=found.whose,
    )


def _not_pushed(result: dict[str, Any], log: list[str], tail: tuple[str, ...]) -> PreviewError:
    last = _last_error(log)
    if not result.get("timed_out") and pushes.is_refusal(last):
        return pushes.refused(last, tail)
    return Temporary(
        Code.REGISTRY_UNREACHABLE,
        "The image was built, but the registry did not take it.",
        reason="PushFailed",
        hint="Check that the registry at REGISTRY_ADDRESS answers and has room.",
        evidence=(last,),
        log_tail=tail,
    )


def _not_pulled(log: list[str], tail: tuple[str, ...]) -> PreviewError:
    return Temporary(
        Code.REGISTRY_UNREACHABLE,
        f"The registry of a base image did not answer: {_last_error(log)}",
        reason=PULL_FAILED,
        hint="Check that the registry of the image after FROM answers.",
        log_tail=tail,
        whose=Whose.PLATFORM,
    )


def _last_error(log: list[str]) -> str:
    for line in reversed(log):
        if line.lower().startswith("error"):
            return line[:2000]
    return log[-1][:2000] if log else "no output"
