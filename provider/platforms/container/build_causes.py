"""What a build's result means: from its state, exit code and last lines to an error with a cause."""

from __future__ import annotations

from typing import Any

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.platforms import pushes
from provider.platforms.base import BuildPlan

_AWAY = (
    "connection refused",
    "connection reset",
    "i/o timeout",
    "TLS handshake timeout",
    "no such host",
    "no route to host",
    "network is unreachable",
    "unexpected HTTP status: 5",
)
"""How Podman says that a registry is away, rather than that it lacks an image."""


def failure(result: dict[str, Any], tail: list[str], plan: BuildPlan) -> PreviewError:
    """The error that a build's result means; the log's words say which step of the Dockerfile it was."""
    state, code = result["state"], result.get("exit_code")
    text = "\n".join(tail)
    if state == "timeout":
        return Permanent(
            Code.JOB_TIMEOUT,
            f"The build did not end within {plan.timeout_seconds:.0f} s and was stopped.",
            reason="BuildDeadline",
            hint="Make the build smaller or faster; the log's tail shows where it was.",
            log_tail=tuple(tail),
        )
    if state == "not_allowed":
        return Permanent(
            Code.KANIKO_BUILD_FAILED,
            result["message"],
            reason=result["reason"],
            hint=result["hint"],
            log_tail=tuple(tail),
        )
    if state in {"stopped", "died", "network_failed", "builder_failed"}:
        return Temporary(
            Code.KANIKO_CREATE_FAILED,
            f"The build ended before it was done ({state}).",
            reason="BuilderEnded",
            hint="Ask again; if it happens again, look at the provider's machine.",
            evidence=(str(result.get("error", "")),) if result.get("error") else (),
            log_tail=tuple(tail),
        )
    if state == "push_failed" and not result.get("timed_out") and pushes.is_refusal(_last_error(tail)):
        return pushes.refused(_last_error(tail), tuple(tail))
    if state == "push_failed":
        return Temporary(
            Code.REGISTRY_UNREACHABLE,
            "The image was built, but the registry did not take it.",
            reason="PushFailed",
            hint="Check that the registry at REGISTRY_ADDRESS answers and has room.",
            log_tail=tuple(tail),
        )
    if state == "base_failed" and (result.get("timed_out") or any(word in text for word in _AWAY)):
        return Temporary(
            Code.REGISTRY_UNREACHABLE,
            f"The registry of a base image did not answer: {_last_error(tail)}",
            reason="PullFailed",
            hint="Check that the registry of the image after FROM answers.",
            log_tail=tuple(tail),
        )
    reason, hint, whose = _cause(state, text, code)
    return Permanent(
        Code.KANIKO_BUILD_FAILED,
        f"The build of {plan.dockerfile} failed: {_last_error(tail)}",
        reason=reason,
        hint=hint,
        whose=whose,
        evidence=(f"exit code {code}", _last_error(tail)),
        log_tail=tuple(tail),
    )


def _cause(state: str, text: str, code: int | None) -> tuple[str, str, Whose]:
    """(reason, hint, whose) of a failed build, from what Podman says of it."""
    lowered = text.lower()
    if state == "base_failed" or "manifest unknown" in lowered or "image not known" in lowered:
        return "BaseImageNotFound", "Check the image and tag after FROM; it could not be pulled.", Whose.USER
    if "no space left on device" in lowered:
        return "DiskFull", "The build machine's disk is full; free space or ask its operator.", Whose.PLATFORM
    if "signal: killed" in lowered or "exit status 137" in lowered:
        return "OutOfMemory", "A step was killed, most likely for its memory: use less, or a larger base.", Whose.USER
    if "while running runtime" in lowered:
        return "RunFailed", "Fix the RUN step that the last STEP line of the log names.", Whose.USER
    if "no such file or directory" in lowered or "no items matching glob" in lowered:
        return "SourceMissing", "A COPY or ADD names a file that is not in the build context.", Whose.USER
    if "parse error" in lowered or "unknown instruction" in lowered or "no from" in lowered or "build stage" in lowered:
        return "DockerfileInvalid", "Fix the Dockerfile at the line that the log names.", Whose.USER
    return "BuildFailed", "The log's tail says what the build tool reported.", Whose.USER


def _last_error(tail: list[str]) -> str:
    for line in reversed(tail):
        if line.lower().startswith("error"):
            return line[:300]
    return tail[-1][:300] if tail else "no output"
