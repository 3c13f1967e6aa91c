"""What a failed build means, in Kaniko's own words (facts.md)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.platforms.base import BuildPlan, Written
from provider.platforms.container import build_causes as on_the_engine
from provider.platforms.kubernetes import build_causes as on_a_cluster
from provider.platforms.kubernetes.build_state import Failed
from tests.unit.test_kaniko_job import plan

FAILED = Failed("BackoffLimitExceeded", "Job has reached the specified backoff limit", "b-1", 1)
DOCKERFILE = """\
# The user's own comment, and a blank line

FROM registry.test/base/node:20 AS build
WORKDIR /app
COPY package.json .
RUN echo one && \\
    # why
    npm ci
COPY lib/vendor /vendor

FROM registry.test/base/node:20
COPY --from=build /app /app
CMD ["node", "server.js"]
"""
USAGE = ["Usage:", "  executor [flags]", "Flags:", "      --build-arg multi-arg type   This flag allows you"]


def failure(
    failed: Failed, log: Sequence[str], errors: Sequence[str], of: BuildPlan, written: Written | None = None
) -> PreviewError:
    return on_a_cluster.failure(failed, log, errors, of, written or Written(), ("2Gi", "10Gi"))


def engine_failure(
    log: list[str], state: str = "build_failed", *, own: bool = True, written: Written | None = None
) -> PreviewError:
    written = written or Written(DOCKERFILE)
    result = {"state": state, "exit_code": 125, "own_registry": own}
    return on_the_engine.failure(result, log, plan(), written, "2Gi")


KANIKO = [
    ("Error: error resolving source context: authentication required", "CredentialsRefused", Whose.USER),
    ("Error: error resolving source context: repository not found", "RepositoryNotFound", Whose.USER),
    ('Error: error resolving source context: couldn\'t find remote ref "refs/heads/gone"', "CommitGone", Whose.USER),
    ("Error: error resolving source context: reference not found", "CommitGone", Whose.USER),
    ("Error: error resolving source context: object not found", "CommitGone", Whose.USER),
    (
        "Error: error resolving dockerfile path: please provide a valid path to a Dockerfile",
        "DockerfileNotFound",
        Whose.USER,
    ),
    (
        "error building image: dockerfile parse error on line 3: unknown instruction: FORM",
        "DockerfileInvalid",
        Whose.USER,
    ),
    ("error building image: parsing dockerfile: unknown instruction: RUNN", "DockerfileInvalid", Whose.USER),
    ("error building image: target stage x is not a valid target build stage", "StageUnknown", Whose.USER),
    (
        "error building image: GET https://r/v2/a/manifests/1: MANIFEST_UNKNOWN: manifest unknown",
        "BaseImageNotFound",
        Whose.USER,
    ),
    (
        "error building image: GET https://r/v2/a/manifests/1: NAME_UNKNOWN: repository name not known",
        "BaseImageNotFound",
        Whose.USER,
    ),
    (
        "error building image: error building stage: failed to get filesystem from image: x",
        "BaseImageNotFound",
        Whose.USER,
    ),
    (
        "error building image: GET https://r/v2/a/manifests/1: TOOMANYREQUESTS: You have reached your pull rate limit",
        "RateLimited",
        Whose.PLATFORM,
    ),
    (
        "error building image: failed to execute command: waiting for process to exit: exit status 7",
        "RunFailed",
        Whose.USER,
    ),
    (
        "error building image: failed to execute command: waiting for process to exit: signal: killed",
        "OutOfMemory",
        Whose.USER,
    ),
    (
        "error building image: failed to take snapshot: write /kaniko/1: no space left on device",
        "DiskFull",
        Whose.PLATFORM,
    ),
    ("error building image: something that nobody has seen yet", "BuildFailed", Whose.USER),
]


@pytest.mark.parametrize(("line", "reason", "whose"), KANIKO)
def test_a_line_of_kanikos(line: str, reason: str, whose: Whose) -> None:
    tail = ["INFO building", line, *USAGE]
    error = failure(FAILED, tail, [line], plan())
    assert isinstance(error, Permanent)
    assert (error.code, error.reason, error.whose) == (Code.KANIKO_BUILD_FAILED, reason, whose)
    assert any(line[:40] in one for one in (error.message, *error.evidence))
    assert error.hint
    assert error.log_tail == tuple(tail)


def test_a_page_of_usage_hides_no_error() -> None:
    """The error line has left the tail, but is kept."""
    line = "Error: error resolving source context: repository not found"
    error = failure(FAILED, USAGE * 20, [line], plan())
    assert error.reason == "RepositoryNotFound"
    assert "repository not found" in error.message


@pytest.mark.parametrize(
    "line",
    [
        "error checking push permissions -- make sure you entered the correct tag name",
        "error pushing image: failed to push to destination x1-registry:5000/previews/shop:1: connection refused",
    ],
)
def test_a_push_that_is_refused_is_the_registrys_and_tried_again(line: str) -> None:
    error = failure(FAILED, [line], [line], plan())
    assert isinstance(error, Temporary)
    assert (error.code, error.reason) == (Code.REGISTRY_UNREACHABLE, "PushFailed")


@pytest.mark.parametrize(
    "words",
    [
        "POST https://x1-registry:5000/v2/previews/shop/blobs/uploads/: UNAUTHORIZED: authentication required",
        "PUT http://x1-registry:5000/v2/x: unexpected status code 405 Method Not Allowed: read only",
        "DENIED: requested access to the resource is denied",
        "unexpected status code 413 Request Entity Too Large",
    ],
)
def test_a_push_that_is_refused_for_good_is_not_tried_again(words: str) -> None:
    line = f"error pushing image: failed to push to destination x1-registry:5000/previews/shop:1: {words}"
    error = failure(FAILED, [line], [line], plan())
    assert isinstance(error, Permanent)
    assert (error.code, error.reason, error.whose) == (Code.REGISTRY_UNREACHABLE, "PushRefused", Whose.PLATFORM)
    assert not error.retryable
    assert words[:40] in error.message


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("writing blob: initiating layer upload: unauthorized: authentication required", "PushRefused"),
        ('writing blob: StatusCode: 405, "Method not allowed"', "PushRefused"),
        (
            'pinging container registry 127.0.0.1:405: Get "http://x": dial tcp: connect: connection refused',
            "PushFailed",
        ),
        ("writing blob: received unexpected HTTP status: 500 Internal Server Error", "PushFailed"),
    ],
)
def test_an_engines_push(words: str, reason: str) -> None:
    line = f"Error: {words}"
    error = engine_failure(["STEP 1", line], "push_failed")
    assert (error.code, error.reason) == (Code.REGISTRY_UNREACHABLE, reason)
    assert isinstance(error, Permanent if reason == "PushRefused" else Temporary)


@pytest.mark.parametrize("tail", [[], ["anything"]])
def test_the_kernels_word_counts_more_than_the_log(tail: list[str]) -> None:
    error = failure(Failed("BackoffLimitExceeded", "m", "b-1", 137, oom=True), tail, [], plan())
    assert (error.code, error.reason) == (Code.KANIKO_BUILD_FAILED, "OutOfMemory")
    assert "BUILD_MEMORY" in (error.hint or "")


def test_an_eviction_is_a_full_disk() -> None:
    evicted = Failed("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi.", "b-1")
    error = failure(evicted, [], [], plan())
    assert (error.code, error.reason) == (Code.KANIKO_BUILD_FAILED, "DiskFull")
    assert "ephemeral local storage" in error.message


def test_a_deadline() -> None:
    error = failure(Failed("DeadlineExceeded", "m"), ["step 7"], [], plan(timeout_seconds=60.0))
    assert (error.code, error.reason, error.log_tail) == (Code.JOB_TIMEOUT, "BuildDeadline", ("step 7",))
    assert "60 s" in error.message


@pytest.mark.parametrize("reason", ["JobGone", "NoDigest", "CreateContainerConfigError"])
def test_what_nobody_is_to_blame_for_is_tried_again(reason: str) -> None:
    error = failure(Failed(reason, "m"), [], [], plan())
    assert isinstance(error, Temporary)
    assert (error.code, error.reason) == (Code.KANIKO_CREATE_FAILED, reason)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "Unschedulable", "PodRefused"])
def test_what_the_operator_has_to_change_is_not(reason: str) -> None:
    error = failure(Failed(reason, "the cluster's words", "b-1"), [], [], plan())
    assert isinstance(error, Permanent)
    assert (error.code, error.reason, error.whose) == (Code.KANIKO_CREATE_FAILED, reason, Whose.PLATFORM)
    assert "the cluster's words" in error.message


KANIKO_ON_A_STEP = "error building image: error building stage: waiting for process to exit: exit status 1"


@pytest.mark.parametrize(
    "said",
    ["error pushing image: no, says my script", "ERROR: repository not found", "fatal: authentication required"],
)
def test_what_a_step_writes_is_not_taken_for_kanikos_word(said: str) -> None:
    error = failure(FAILED, [said, KANIKO_ON_A_STEP], [said, KANIKO_ON_A_STEP], plan())
    assert (error.code, error.reason) == (Code.KANIKO_BUILD_FAILED, "RunFailed")


def test_a_step_that_found_the_disk_full_is_told_so() -> None:
    error = failure(FAILED, ["cp: write error: No space left on device"], [KANIKO_ON_A_STEP], plan())
    assert error.reason == "DiskFull"


# ----------------------------------------------------------------- the user's own line


def podman(step: str, *output: str, said: str = "while running runtime: exit status 1") -> list[str]:
    return [
        "[1/2] STEP 1/4: FROM registry.test/base/node:20 AS build",
        "[1/2] STEP 2/4: WORKDIR /app",
        "--> 03166d9a67d",
        "[1/2] STEP 3/4: COPY package.json .",
        f"[1/2] STEP 4/4: {step}",
        *output,
        f'Error: building at STEP "{step}": {said}',
    ]


NPM = "npm error `npm ci` can only install packages when your package.json and package-lock.json or n are in sync."


def test_the_engines_step_is_told_by_the_users_own_line() -> None:
    error = engine_failure(podman("RUN echo one &&      npm ci", "one", NPM, *(["npm error"] * 90)))
    assert (error.code, error.reason) == (Code.KANIKO_BUILD_FAILED, "LockFileOutOfDate")
    assert error.hint is not None
    assert error.hint.startswith("Dockerfile:6: package-lock.json")
    assert error.evidence[0] == "Dockerfile:6: RUN echo one && npm ci"
    assert len(error.log_tail) == 40


def test_kanikos_step_is_told_by_the_users_own_line() -> None:
    said = ["WORKDIR /app", "RUN echo one &&     npm ci", "Running: [/bin/sh -c x]", "Taking snapshot of all"]
    told = [f'time="2026-11-28T18:31:24Z" level=info msg="{line}"' for line in said]
    error = failure(
        FAILED, [*told[:3], NPM, told[3], KANIKO_ON_A_STEP], [KANIKO_ON_A_STEP], plan(), Written(DOCKERFILE)
    )
    assert error.reason == "LockFileOutOfDate"
    assert str(error.hint).startswith("Dockerfile:6: ")


def test_a_step_that_writes_steps_is_not_taken_for_them() -> None:
    error = engine_failure(podman("RUN echo one &&      npm ci", "STEP 9/9: RUN rm -rf /", "STEP 1/4: WORKDIR /app"))
    assert error.evidence[0] == "Dockerfile:6: RUN echo one && npm ci"


def test_a_dockerfile_that_nobody_has_is_named_without_a_line() -> None:
    error = engine_failure(podman("RUN npm ci", NPM), written=Written())
    assert error.reason == "LockFileOutOfDate"
    assert str(error.hint).startswith("Dockerfile: package-lock.json")


def test_what_no_row_knows_is_told_as_it_is() -> None:
    error = engine_failure(podman("RUN echo one &&      npm ci", "the moon is too near"))
    assert error.reason == "RunFailed"
    assert "the moon is too near" in error.message
    assert "exit code" in str(error.hint)
    error = engine_failure(["Error: the moon is too near"])
    assert (error.reason, error.whose) == ("BuildFailed", Whose.USER)
    assert "not known" in str(error.hint)


def test_a_submodule_is_named_where_its_files_are_missed() -> None:
    said = 'checking on sources under "/x/tree": copier: stat: "/lib/vendor": no such file or directory'
    log = [*podman("RUN true")[:-1], "[1/2] STEP 5/5: COPY lib/vendor /vendor"]
    log.append(f'Error: building at STEP "COPY lib/vendor /vendor": {said}')
    error = engine_failure(log, written=Written(DOCKERFILE, ("lib/vendor",)))
    assert error.reason == "SubmoduleNotFetched"
    assert "lib/vendor" in str(error.hint)
    assert ".gitmodules" in str(error.hint)


@pytest.mark.parametrize(("own", "kind"), [(True, Temporary), (False, Permanent)])
def test_our_own_registry_is_waited_for_and_nobody_elses(own: bool, kind: type[PreviewError]) -> None:
    line = (
        "Error: initializing source docker://registry.test/base/node:20: pinging container registry registry.test: "
        'Get "https://registry.test/v2/": dial tcp 10.0.0.9:443: connect: connection refused'
    )
    error = engine_failure([line], "base_failed", own=own)
    assert isinstance(error, kind)
    assert (error.code, error.whose, error.retryable) == (Code.REGISTRY_UNREACHABLE, Whose.PLATFORM, True)
    assert str(error.hint).startswith("Dockerfile:3: ")
