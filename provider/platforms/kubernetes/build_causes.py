"""What a failed build Job means: from the cluster's words and Kaniko's log to an error with a cause. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.platforms import pushes
from provider.platforms.base import BuildPlan
from provider.platforms.kubernetes.build_state import LACKS_SECRET, Failed

Cause = tuple[str, str, Whose]

_DISK_FULL = r"no space left on device"
_SAYINGS: tuple[tuple[str, Cause], ...] = (
    (_DISK_FULL, ("DiskFull", "Make the image or its layers smaller, or raise BUILD_DISK.", Whose.PLATFORM)),
    (
        r"authentication required|authorization failed",
        ("CredentialsRefused", "The git host refused the clone credentials; check the installation.", Whose.USER),
    ),
    (r"repository not found", ("RepositoryNotFound", "Check repo_full_name and GIT_BASE_URL.", Whose.USER)),
    (
        r"couldn't find remote ref|reference not found|object not found",
        ("CommitGone", "The branch or commit went away while it was built; deploy what is there now.", Whose.USER),
    ),
    (
        r"error resolving dockerfile path",
        ("DockerfileNotFound", "Make spec.entrypoint.path name a Dockerfile at that commit.", Whose.USER),
    ),
    (
        r"dockerfile parse error|unknown instruction|is not a valid target build stage|no build stage",
        ("DockerfileInvalid", "Fix the Dockerfile at the line that the log names.", Whose.USER),
    ),
    (
        r"TOOMANYREQUESTS",
        ("RateLimited", "Use a mirror of the base image's registry (REGISTRY_MIRRORS).", Whose.PLATFORM),
    ),
    (
        r"MANIFEST_UNKNOWN|NAME_UNKNOWN|failed to get filesystem from image|UNAUTHORIZED.*base",
        ("BaseImageNotFound", "Check the image and tag after FROM; it could not be pulled.", Whose.USER),
    ),
    (r"signal: killed", ("OutOfMemory", "A step was killed, most likely for its memory: use less.", Whose.USER)),
    (
        r"waiting for process to exit: exit status|error building image: .*failed to execute command",
        ("RunFailed", "Fix the RUN step that the log names last.", Whose.USER),
    ),
    (
        r"failed to get fileinfo|no such file or directory|copy failed|no source files were specified",
        ("SourceMissing", "A COPY or ADD names a file that is not in the build context.", Whose.USER),
    ),
)
"""Kaniko's words, from the top: the first that matches is the cause."""

_PUSH = re.compile(r"error checking push permissions|failed to push to destination|error pushing image")
PUSH_AGAIN_SECONDS = 15.0
"""Kaniko has tried the push itself some times, and another try costs a whole build."""
_START_HINT = "The evidence holds the cluster's words; its operator can change KANIKO_IMAGE, quota, or nodes."


def failure(failed: Failed, tail: Sequence[str], errors: Sequence[str], plan: BuildPlan) -> PreviewError:
    """The error that a build's end means.

    Args:
        failed: what the cluster says.
        tail: the log's last lines.
        errors: its last lines that are errors: a page of usage may follow them.
        plan: what was built.
    """
    said, log_tail = [*errors, *tail], tuple(tail)
    text, last = "\n".join(said), _last_error(errors or tail)
    if failed.reason == "DeadlineExceeded":
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
    reason, hint, whose = _cause(failed, text, last)
    return Permanent(
        Code.KANIKO_BUILD_FAILED,
        f"The build of {plan.dockerfile} failed: {last or failed.message}",
        reason=reason,
        hint=hint,
        whose=whose,
        evidence=(f"exit code {failed.exit_code}", f"{failed.reason}: {failed.message}", last),
        log_tail=log_tail,
    )


def _not_run(failed: Failed, log_tail: tuple[str, ...]) -> PreviewError:
    """The build did not come to run, or was taken away in the middle."""
    again = failed.reason in {"JobGone", "NoDigest", "BackoffLimitExceeded", LACKS_SECRET}
    kind = Temporary if again else Permanent
    return kind(
        Code.KANIKO_CREATE_FAILED,
        f"The build could not run: {failed.message or failed.reason}",
        reason=failed.reason,
        hint=_START_HINT,
        evidence=(f"{failed.reason}: {failed.message}",),
        log_tail=log_tail,
    )


def _cause(failed: Failed, text: str, last: str) -> Cause:
    """What Kaniko's own last word says; only what it does not tell is looked for in what the steps wrote."""
    if failed.oom:
        return "OutOfMemory", "The build was killed for its memory: use less, or raise BUILD_MEMORY.", Whose.USER
    if failed.reason == "Evicted":
        return "DiskFull", "The build used more disk than BUILD_DISK allows: make its layers smaller.", Whose.USER
    for said in (text if re.search(_DISK_FULL, text, re.IGNORECASE) else last, text):
        for saying, cause in _SAYINGS:
            if re.search(saying, said, re.IGNORECASE):
                return cause
    return "BuildFailed", "The log's tail says what Kaniko reported.", Whose.USER


def _last_error(tail: Sequence[str]) -> str:
    for line in reversed(tail):
        if line.lower().startswith("error") or "level=error" in line or "level=fatal" in line:
            return line[:300]
    return tail[-1][:300] if tail else ""
