"""What a failed build Job means: from the cluster's words and Kaniko's log to an error with a cause. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from provider.diagnose import builds
from provider.diagnose.cluster import BUILD_PODS
from provider.diagnose.table import Finding
from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import LOG_TAIL_LINES
from provider.platforms import pushes
from provider.platforms.base import BuildPlan, Written
from provider.platforms.kubernetes.build_state import DEADLINE, LACKS_SECRET, NOT_PREPARED, Failed

_PUSH = re.compile(r"error checking push permissions|failed to push to destination|error pushing image")
PUSH_AGAIN_SECONDS = 15.0
"""Kaniko has tried the push itself some times, and another try costs a whole build."""
_START_HINT = "The evidence holds the cluster's words; its operator can change KANIKO_IMAGE, quota, or nodes."


def failure(
    failed: Failed,
    log: Sequence[str],
    errors: Sequence[str],
    plan: BuildPlan,
    written: Written,
    limits: tuple[str, str],
) -> PreviewError:
    """The error that a build's end means.

    Args:
        failed: what the cluster says.
        log: the log's last lines.
        errors: its last lines that are errors: a page of usage may follow them.
        plan: what was built.
        written: what the repository says of it.
        limits: memory and disk that a build may use.
    """
    log_tail, last = tuple(log[-LOG_TAIL_LINES:]), _last_error(errors or log)
    if failed.reason == DEADLINE:
        return Permanent(
            Code.JOB_TIMEOUT,
            f"The build did not end within {plan.timeout_seconds:.0f} s and was stopped.",
            reason="BuildDeadline",
            hint="Make the build smaller or faster; the log's tail shows where it was.",
            log_tail=log_tail,
        )
    if failed.exit_code is None and not failed.oom and failed.reason != "Evicted":
        return _not_run(failed, log_tail)
    if _PUSH.search(last):  # not the whole log: a RUN step may say so of a push of its own
        if pushes.is_refusal(last):
            return pushes.refused(last, log_tail)
        return Temporary(
            Code.REGISTRY_UNREACHABLE,
            f"The image was built, but the registry did not take it: {last}",
            reason="PushFailed",
            hint="Check that the registry at REGISTRY_ADDRESS answers, has room, and lets the build push.",
            log_tail=log_tail,
            delay=PUSH_AGAIN_SECONDS,
        )
    found = _of_the_pod(failed, plan, limits) or builds.cause(
        builds.Build(
            said=last or failed.message,
            log=log,
            exit_code=failed.exit_code,
            path=plan.dockerfile,
            text=written.dockerfile,
            context=plan.context,
            memory=limits[0],
            submodules=written.submodules,
        )
    )
    told = f"{failed.reason}: {failed.message}"
    return dataclasses.replace(found, evidence=(*found.evidence, told)).error(log_tail)


def _of_the_pod(failed: Failed, plan: BuildPlan, limits: tuple[str, str]) -> Finding | None:
    """What the kernel or the kubelet did to the build."""
    memory, disk = limits
    file = plan.dockerfile.removeprefix("./")
    if failed.oom:
        reason, hint = "OutOfMemory", f"let a step of {file} use less memory, or have BUILD_MEMORY ({memory}) raised"
    elif failed.reason == "Evicted":
        reason, hint = "DiskFull", f"make the layers of {file} smaller, or have BUILD_DISK ({disk}) raised"
    else:
        return None
    return Finding(
        code=Code.KANIKO_BUILD_FAILED,
        reason=reason,
        message=f"The build of {file} was ended by the cluster: {failed.message or reason}",
        hint=f"The whole build took too much: {hint}.",
        evidence=(f"exit code {failed.exit_code}",),
    )


def _not_run(failed: Failed, log_tail: tuple[str, ...]) -> PreviewError:
    """The build did not come to run, or was taken away in the middle."""
    again = failed.reason in {"JobGone", "NoDigest", "BackoffLimitExceeded", LACKS_SECRET, *NOT_PREPARED}
    kind = Temporary if again else Permanent
    found = BUILD_PODS.find([failed.message])
    return kind(
        Code.KANIKO_CREATE_FAILED,
        f"The build could not run: {failed.message or failed.reason}",
        reason=failed.reason,
        hint=found.hint({}) if found is not None else _START_HINT,
        evidence=(f"{failed.reason}: {failed.message}",),
        log_tail=log_tail,
    )


def _last_error(tail: Sequence[str]) -> str:
    for line in reversed(tail):
        if line.lower().startswith("error") or "level=error" in line or "level=fatal" in line:
            return line[:2000]
    return tail[-1][:2000] if tail else ""
