"""Where a build is, judged from its Job, pods and events. Pure (design.md, house rule 3).

What decides: a container that ended with exit code 0 and a digest is a success at once, since the Job's controller
is seconds late; a failure is one only when the Job says so, since a pod that failed may be tried again. A pod that
cannot begin is one as well: the Job would say nothing until its deadline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from provider.platforms.kubernetes.api import Object
from provider.platforms.kubernetes.kaniko import CONTAINER

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REFUSED_GRACE = 10.0
"""Seconds for which a pod's refusal may pass by itself: a service account or quota that is only just being made."""
VERDICT_GRACE = 5.0
"""Seconds by which the watch of pods may be behind that of Jobs: the pod knows why, the Job only that."""
CANNOT_START = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerError")
LACKS_SECRET = "CreateContainerConfigError"  # noqa: S105 - a reason of the kubelet's
NOT_PREPARED = ("FailedMount", "FailedCreatePodSandBox")
"""Events of a pod whose volumes or network cannot be made; the kubelet tries again for ever."""
PREPARED_GRACE = 30.0
"""Seconds for which that may pass by itself: a Secret that is only just being made, an address that becomes free."""
DEADLINE = "DeadlineExceeded"
NOT_STARTED = "NotStarted"
"""Ours, of a Job whose deadline passed while nothing ran yet."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing runs yet, and why."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The build's container runs, or ended in a way that the Job has not judged yet."""

    pod: str


@dataclass(frozen=True, slots=True)
class Done:
    """The image is pushed."""

    digest: str
    pod: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The build failed.

    Args:
        reason: the cluster's word: a Job condition's, a waiting container's, a pod's.
        message: its sentence.
        pod: the last one, if there was any.
        exit_code: of its container, if that ran.
        oom: the container was killed for its memory.
    """

    reason: str
    message: str
    pod: str | None = None
    exit_code: int | None = None
    oom: bool = False


State = Waiting | Running | Done | Failed


def judge(
    job: Object | None,
    pods: Sequence[Object],
    events: Sequence[Object],
    age: Callable[[Object], float],
    schedule_grace: float,
    judged_for: float,
) -> State:
    """Where the build is.

    Args:
        job: None when somebody deleted it.
        pods: the Job's.
        events: about the Job and its pods, oldest first.
        age: for how many seconds an object is there.
        schedule_grace: seconds that a pod may wait for a node.
        judged_for: for how many seconds the Job's verdict is known here.
    """
    if job is None:
        return Failed("JobGone", "The build's Job was deleted.")
    pod = max(pods, key=_created, default=None)
    if pod is not None and (done := _done(pod)) is not None:
        return done
    if is_finished(job) and judged_for < VERDICT_GRACE and not _explains(pod, job):
        return Waiting("its pod's end is not seen yet")
    if (condition := _condition(job, "Failed")) is not None:
        return _failed(condition.get("reason", "Failed"), condition.get("message", ""), pod)
    if _condition(job, "Complete") is not None:
        return _failed("NoDigest", "The build ended well, but left no digest.", pod)
    if pod is None:
        return _not_created(job, events, age)
    if _has_run(pod):
        return Running(pod["metadata"]["name"])
    return _not_started(pod, events, age, schedule_grace)


def _done(pod: Object) -> Done | None:
    ended = _container(pod).get("state", {}).get("terminated")
    if ended is None or ended["exitCode"] != 0:
        return None
    digest = str(ended.get("message", "")).strip()
    return Done(digest, pod["metadata"]["name"]) if DIGEST.fullmatch(digest) else None


def _explains(pod: Object | None, job: Object) -> bool:
    """Whether the pod, as it is known here, can be what the Job was judged by."""
    failed = _condition(job, "Failed")
    if failed is not None and failed.get("reason") == DEADLINE:
        return True  # whatever its pod did
    ended = (_container(pod).get("state", {}).get("terminated") if pod is not None else None) or {}
    if failed is None:
        return ended.get("exitCode") == 0
    return bool(ended.get("exitCode")) or (pod is not None and pod.get("status", {}).get("phase") == "Failed")


def _failed(reason: str, message: str, pod: Object | None) -> Failed:
    if pod is None:
        return Failed(reason, message)
    ended = _container(pod).get("state", {}).get("terminated") or {}
    status = pod.get("status", {})
    if status.get("reason") and reason != DEADLINE:  # Evicted, and the like
        reason, message = status["reason"], status.get("message", message)
    return Failed(
        reason,
        message,
        pod["metadata"]["name"],
        ended.get("exitCode"),
        # An evicted container is killed, too.
        oom=ended.get("reason") == "OOMKilled" or (ended.get("exitCode") == 137 and reason != "Evicted"),
    )


def _not_created(job: Object, events: Sequence[Object], age: Callable[[Object], float]) -> State:
    refusals = [event for event in events if event.get("reason") == "FailedCreate"]
    if not refusals:
        return Waiting("no pod yet")
    message = str(refusals[-1].get("message", ""))
    if age(job) > REFUSED_GRACE:
        return Failed("PodRefused", message)
    return Waiting(message)


def _not_started(pod: Object, events: Sequence[Object], age: Callable[[Object], float], schedule_grace: float) -> State:
    name = pod["metadata"]["name"]
    waiting = _container(pod).get("state", {}).get("waiting", {})
    reason = waiting.get("reason")
    if reason in CANNOT_START or (reason == LACKS_SECRET and age(pod) > REFUSED_GRACE):
        return Failed(reason, waiting.get("message", ""), name)
    scheduled = _condition(pod, "PodScheduled", "False")
    if scheduled is not None:
        message = str(scheduled.get("message", ""))
        late = age(pod) > schedule_grace
        return Failed("Unschedulable", message, name) if late else Waiting(message)
    unprepared = [event for event in _about(pod, events) if event.get("reason") in NOT_PREPARED]
    if unprepared and age(pod) > PREPARED_GRACE:
        return Failed(str(unprepared[-1]["reason"]), str(unprepared[-1].get("message", "")), name)
    return Waiting(_last_words(pod, events))


def _has_run(pod: Object) -> bool:
    return bool(_container(pod).get("state", {}).keys() & {"running", "terminated"})


def _last_words(pod: Object, events: Sequence[Object]) -> str:
    """What was said last of a pod that did not begin."""
    waiting = _container(pod).get("state", {}).get("waiting", {})
    told = [f"{event.get('reason')}: {event.get('message', '')}" for event in _about(pod, events)]
    return str(told[-1] if told else waiting.get("message") or waiting.get("reason") or "nothing is known of its pod")


def _about(pod: Object, events: Sequence[Object]) -> list[Object]:
    uid = pod["metadata"]["uid"]
    return [event for event in events if event.get("involvedObject", {}).get("uid") == uid]


def _container(pod: Object) -> dict[str, Any]:
    found = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in found if one["name"] == CONTAINER), {})


def _condition(found: Object, kind: str, status: str = "True") -> dict[str, Any] | None:
    conditions = found.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind and one["status"] == status), None)


def is_finished(job: Object) -> bool:
    """Whether the Job's controller has judged it."""
    return any(_condition(job, kind) is not None for kind in ("Complete", "Failed"))


def _created(found: Object) -> str:
    return str(found["metadata"]["creationTimestamp"])
