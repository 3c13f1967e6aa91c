"""Where a build is, from its Job and pods."""

from __future__ import annotations

from typing import Any

import pytest

from provider.platforms.kubernetes.build_state import Done, Failed, Running, State, Waiting, is_finished, judge

Object = dict[str, Any]
DIGEST = "sha256:" + "a" * 64


def job(*conditions: tuple[str, str, str]) -> Object:
    told = [{"type": kind, "status": "True", "reason": why, "message": text} for kind, why, text in conditions]
    return {"kind": "Job", "metadata": {"name": "b", "uid": "j1"}, "status": {"conditions": told}}


def pod(state: Object | None = None, created: str = "2026-01-01T00:00:01Z", name: str = "b-1", **status: Any) -> Object:
    if state is not None:
        status["containerStatuses"] = [{"name": "kaniko", "state": state}]
    return {"kind": "Pod", "metadata": {"name": name, "uid": name, "creationTimestamp": created}, "status": status}


def ended(code: int, message: str = "", reason: str = "Error") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def where(found: Object | None, *pods: Object, events: tuple[Object, ...] = (), age: float = 0.0, judged: float = 0.0) -> State:  # fmt: skip  # noqa: E501
    return judge(found, pods, events, lambda _: age, 60.0, judged)


FAILED = job(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"))


def test_nothing_yet() -> None:
    assert where(job()) == Waiting("no pod yet")


@pytest.mark.parametrize("state", [{"running": {}}, ended(1), ended(0, "no digest")])
def test_a_container_that_runs_or_ended_without_a_verdict_is_under_way(state: Object) -> None:
    """With further tries allowed, a failed pod is not the end (facts.md)."""
    assert where(job(), pod(state)) == Running("b-1")


def test_a_good_end_with_a_digest_is_the_end_at_once() -> None:
    assert where(job(), pod(ended(0, DIGEST + "\n"))) == Done(DIGEST, "b-1")


def test_a_digest_of_a_failed_container_is_not_believed() -> None:
    """It is written before the push."""
    assert where(job(), pod(ended(1, DIGEST))) == Running("b-1")
    verdict = where(FAILED, pod(ended(1, DIGEST)))
    assert isinstance(verdict, Failed)
    assert verdict.exit_code == 1


@pytest.mark.parametrize("text", ["", "sha256:abc", DIGEST + "x", "x" + DIGEST, DIGEST.upper()])
def test_only_a_digest_is_one(text: str) -> None:
    assert isinstance(where(job(), pod(ended(0, text))), Running)


def test_a_job_that_is_complete_without_a_digest_failed() -> None:
    verdict = where(job(("Complete", "", "")), pod(ended(0, "")))
    assert isinstance(verdict, Failed)
    assert verdict.reason == "NoDigest"


@pytest.mark.parametrize("pods", [(), (pod({"running": {}}),), (pod(ended(1)),)])
def test_a_good_verdict_waits_for_the_pod_that_earned_it(pods: tuple[Object, ...]) -> None:
    """The watch of pods may be behind that of Jobs."""
    complete = job(("Complete", "", ""))
    assert isinstance(where(complete, *pods, judged=1.0), Waiting)
    verdict = where(complete, *pods, judged=6.0)
    assert isinstance(verdict, Failed)
    assert verdict.reason == "NoDigest"


@pytest.mark.parametrize("pods", [(), (pod({"running": {}}),)])
def test_a_bad_verdict_waits_for_the_pod_that_knows_why(pods: tuple[Object, ...]) -> None:
    assert isinstance(where(FAILED, *pods, judged=1.0), Waiting)
    assert isinstance(where(FAILED, *pods, judged=6.0), Failed)


def test_a_deadline_needs_no_pod() -> None:
    verdict = where(job(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")))
    assert isinstance(verdict, Failed)
    assert verdict.reason == "DeadlineExceeded"


def test_a_deadline_stays_one_whatever_the_pod_says() -> None:
    late = job(("Failed", "DeadlineExceeded", "too long"))
    verdict = where(late, pod(ended(137), phase="Failed", reason="Evicted", message="m"))
    assert isinstance(verdict, Failed)
    assert verdict.reason == "DeadlineExceeded"


def test_an_evicted_pod_says_more_than_its_job() -> None:
    said = {"phase": "Failed", "reason": "Evicted", "message": "Pod ephemeral local storage usage"}
    for state in (None, ended(137)):
        verdict = where(FAILED, pod(state, **said))
        assert isinstance(verdict, Failed)
        assert (verdict.reason, verdict.message, verdict.oom) == ("Evicted", said["message"], False)


@pytest.mark.parametrize(
    ("state", "oom"), [(ended(137), True), (ended(1, reason="OOMKilled"), True), (ended(1), False)]
)
def test_out_of_memory(state: Object, oom: bool) -> None:
    verdict = where(FAILED, pod(state))
    assert isinstance(verdict, Failed)
    assert verdict.oom == oom


def test_the_newest_pod_counts() -> None:
    first, second = pod(ended(1)), pod({"running": {}}, "2026-01-01T00:00:09Z", "b-2")
    assert where(job(), second, first) == Running("b-2")


def test_a_job_that_is_gone() -> None:
    verdict = where(None, pod({"running": {}}))
    assert isinstance(verdict, Failed)
    assert verdict.reason == "JobGone"


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "InvalidImageName", "CreateContainerError"])
def test_a_builder_that_can_not_start(reason: str) -> None:
    verdict = where(job(), pod({"waiting": {"reason": reason, "message": "why"}}))
    assert verdict == Failed(reason, "why", "b-1")


@pytest.mark.parametrize("reason", ["ContainerCreating", "ErrImagePull", "CreateContainerConfigError"])
def test_what_may_pass_is_waited_for(reason: str) -> None:
    """The credentials' Secret may come a moment later than the Job."""
    assert isinstance(where(job(), pod({"waiting": {"reason": reason}})), Waiting)


@pytest.mark.parametrize(("age", "kind"), [(59.0, Waiting), (61.0, Failed)])
def test_no_node_for_it(age: float, kind: type[State]) -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}
    verdict = where(job(), pod(None, conditions=[unscheduled]), age=age)
    assert isinstance(verdict, kind)
    assert "Insufficient cpu" in str(verdict)


@pytest.mark.parametrize(("age", "kind"), [(9.0, Waiting), (11.0, Failed)])
def test_its_pod_is_refused(age: float, kind: type[State]) -> None:
    told = ({"reason": "FailedCreate", "message": "Error creating: exceeded quota"},)
    verdict = where(job(), events=told, age=age)
    assert isinstance(verdict, kind)
    assert "exceeded quota" in str(verdict)


def test_finished_is_what_the_conditions_say() -> None:
    assert is_finished(FAILED)
    assert is_finished(job(("Complete", "", "")))
    assert not is_finished(job(("FailureTarget", "PodFailurePolicy", "")))
    assert not is_finished({"metadata": {}, "status": {"failed": 1}})


def test_credentials_that_are_not_there_do_not_come_by_waiting() -> None:
    lacking = pod({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "b-git" not found'}})
    assert isinstance(where(job(), lacking, age=1.0), Waiting)
    verdict = where(job(), lacking, age=11.0)
    assert isinstance(verdict, Failed)
    assert verdict.message == 'secret "b-git" not found'
