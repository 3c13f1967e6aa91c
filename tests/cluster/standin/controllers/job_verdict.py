"""Whether a Job is decided, as pure functions of the Job and its pods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.cluster.standin.clock import moment
from tests.cluster.standin.controllers.base import is_going
from tests.cluster.standin.controllers.conditions import condition
from tests.cluster.standin.controllers.pods import is_active, phase

Object = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """How a Job ended."""

    succeeded: bool
    reason: str
    message: str


def verdict(job: Object, pods: list[Object], now: datetime) -> Verdict | None:
    """How the Job ended; None while it goes on."""
    if any(phase(pod) == "Succeeded" for pod in pods):
        return Verdict(True, "CompletionsReached", "Reached expected number of succeeded pods")
    failed = [pod for pod in pods if phase(pod) == "Failed"]
    for pod in failed:
        if (rule := _rule(job, pod)) and rule[1]["action"] == "FailJob":
            return Verdict(False, "PodFailurePolicy", _failed_by(pod, *rule))
    if _is_late(job, now):
        return Verdict(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    lost = [pod for pod in pods if is_going(pod) and phase(pod) not in ("Failed", "Succeeded")]
    if len([*counted(job, failed), *lost]) + _restarts(pods) > job["spec"].get("backoffLimit", 6):
        return Verdict(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    return None


def counted(job: Object, failed: list[Object]) -> list[Object]:
    """Failed pods that count against the backoffLimit."""
    return [pod for pod in failed if not is_ignored(job, pod)]


def is_ignored(job: Object, pod: Object) -> bool:
    """Whether the Job's podFailurePolicy says that this failure is nobody's fault."""
    rule = _rule(job, pod)
    return rule is not None and rule[1]["action"] == "Ignore"


def ended_at(pod: Object) -> datetime:
    """When its last container ended."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    ends = [one["state"]["terminated"]["finishedAt"] for one in statuses if "terminated" in one["state"]]
    return moment(max(ends, default=pod["metadata"]["creationTimestamp"]))


def _is_late(job: Object, now: datetime) -> bool:
    seconds, started = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
    return seconds is not None and started is not None and moment(started) + timedelta(seconds=seconds) <= now


def _restarts(pods: list[Object]) -> int:
    """With restartPolicy OnFailure the kubelet's own attempts count."""
    running = [pod for pod in pods if is_active(pod) and pod["spec"].get("restartPolicy") == "OnFailure"]
    return sum(one["restartCount"] for pod in running for one in pod.get("status", {}).get("containerStatuses", []))


def _rule(job: Object, pod: Object) -> tuple[int, Object] | None:
    """The first rule of the podFailurePolicy that fits a failed pod, with its index."""
    if phase(pod) != "Failed":
        return None
    rules = job["spec"].get("podFailurePolicy", {}).get("rules", [])
    return next(((index, rule) for index, rule in enumerate(rules) if _fits(rule, pod)), None)


def _fits(rule: Object, pod: Object) -> bool:
    if "onExitCodes" in rule:
        return _matching_container(rule["onExitCodes"], pod) is not None
    wanted = rule.get("onPodConditions", [])
    return any((condition(pod, one["type"]) or {}).get("status") == one.get("status", "True") for one in wanted)


def _matching_container(wanted: Object, pod: Object) -> Object | None:
    for status in pod.get("status", {}).get("containerStatuses", []):
        code = status["state"].get("terminated", {}).get("exitCode", 0)
        named = wanted.get("containerName") in (None, status["name"])
        if named and code != 0 and (code in wanted["values"]) == (wanted["operator"] == "In"):
            found: Object = status
            return found
    return None


def _failed_by(pod: Object, index: int, rule: Object) -> str:
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    container = _matching_container(rule["onExitCodes"], pod) if "onExitCodes" in rule else None
    if container is not None:
        code = container["state"]["terminated"]["exitCode"]
        what = f"Container {container['name']} for pod {name} failed with exit code {code}"
        return f"{what} matching FailJob rule at index {index}"
    kind = next(one["type"] for one in rule["onPodConditions"] if condition(pod, one["type"]))
    return f"Pod {name} has condition {kind} matching FailJob rule at index {index}"
