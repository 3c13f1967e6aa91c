"""Whether a revision is ready, judged from what the cluster shows of it. Pure (design.md, house rule 3).

Ready means: the newest ReplicaSet's pods are the only ones that get traffic. A failure that will not mend itself
is told at once, in the cluster's own words, not when a deadline has passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from provider.diagnose.rollouts import INCOMPLETE, is_refusal
from provider.platforms.kubernetes.api import Object
from provider.platforms.kubernetes.resources import POD_LOGS

REVISION = "deployment.kubernetes.io/revision"
POD_HASH = "pod-template-hash"
APP = POD_LOGS.container
"""The app's container: others may have been put beside it."""
LOST_SECONDS = 20.0
"""After which a pod that neither serves nor ends is one of a lost node: it would have been killed long since."""
REFUSED_GRACE = 3.0
"""Seconds for which a pod's refusal may pass by itself: quota is given back while the old pod ends."""
CONFIG_GRACE = 10.0
"""Seconds for which a missing Secret may still come."""
UNPULLABLE = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
CANNOT_RUN = ("StartError", "ContainerCannotRun")
"""Of a container whose program could not be run; its message is the runtime's."""
CONFIG_ERRORS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the caches hold of one preview.

    Args:
        applied: whether the Deployment is the one that was applied, not an older one that a watch still shows.
        events: about the Deployment, its ReplicaSets and pods, oldest first.
    """

    deployment: Object | None
    applied: bool
    replica_sets: Sequence[Object]
    pods: Sequence[Object]
    slices: Sequence[Object]
    events: Sequence[Object]


@dataclass(frozen=True, slots=True)
class Ready:
    """The revision serves, alone; its app was restarted so many times, and runs since then (the kubelet's RFC 3339)."""

    restarts: int = 0
    since: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not ready yet, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The rollout will not succeed.

    Args:
        reason: the cluster's word, or ours for what it has none for.
        message: what the cluster says.
        pod: whose log tells more.
        exit_code, restarts: of the app's container.
        was_ready: its pod was ready before.
    """

    reason: str
    message: str
    pod: str | None = None
    exit_code: int | None = None
    restarts: int = 0
    was_ready: bool = False


State = Ready | Waiting | Broken
Ages = Callable[[Object], float]
"""For how many seconds what may pass by itself is known: a pod is there, or ends; a ReplicaSet is refused its pods."""


def judge(seen: Seen, age: Ages, schedule_grace: float) -> State:
    """Where the rollout is."""
    deployment = seen.deployment
    if deployment is None or not seen.applied:
        return Waiting("the cluster does not show the Deployment yet")
    status = deployment.get("status", {})
    if int(status.get("observedGeneration", 0)) < int(deployment["metadata"].get("generation", 0)):
        return Waiting("the Deployment's controller has not seen it yet")
    newest = newest_replica_set(deployment, seen.replica_sets)
    if newest is None:
        return Waiting("no ReplicaSet yet")
    pods = pods_of(newest, seen.pods)
    late = _condition(deployment, "Progressing", "False")
    if late is not None:
        return overdue(seen, str(late.get("message", "")))
    broken = _refused(newest, seen.events, age) or _first_broken(_active(pods), age, schedule_grace)
    if broken is not None:
        return _killed_by_probe(broken, pods, seen.events) or broken
    return _progress(deployment, pods, seen, age)


def overdue(seen: Seen, waited_for: str) -> Broken:
    """Why a rollout is not over that has had all its time: whatever might have passed by itself did not.

    Args:
        seen: what the caches hold of it.
        waited_for: what is told where the cluster says nothing of it.
    """
    if seen.deployment is None:
        return Broken(INCOMPLETE, waited_for)
    if seen.deployment["spec"].get("paused"):
        return Broken("Paused", "the Deployment is paused")
    newest = newest_replica_set(seen.deployment, seen.replica_sets)
    if newest is None:
        return Broken(INCOMPLETE, waited_for)
    pods = pods_of(newest, seen.pods)
    active = _active(pods)
    broken = _refused(newest, seen.events, _for_ever, whatever=True) or _first_broken(active or pods, _for_ever, 0.0)
    if broken is not None:
        return _killed_by_probe(broken, pods, seen.events) or broken
    name = str(active[-1]["metadata"]["name"]) if active else None
    if probes := _told(active, seen.events, "Unhealthy"):
        return Broken("Unhealthy", probes[-1], name)
    running = [one for one in map(_container, active) if "running" in one.get("state", {})]
    if not all(one.get("ready") for one in running):
        return Broken("Unhealthy", waited_for, name)
    words = "" if running else _last_words(active, seen.events)
    return Broken(INCOMPLETE, words or waited_for, name)


def newest_replica_set(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the Deployment's present template."""
    revision = _annotations(deployment).get(REVISION)
    uid = deployment["metadata"]["uid"]
    own = [one for one in replica_sets if uid in _owners(one)]
    return next((one for one in own if revision and _annotations(one).get(REVISION) == revision), None)


def pods_of(replica_set: Object, pods: Sequence[Object]) -> list[Object]:
    """A ReplicaSet's pods."""
    return [pod for pod in pods if replica_set["metadata"]["uid"] in _owners(pod)]


def _progress(deployment: Object, pods: Sequence[Object], seen: Seen, age: Ages) -> State:
    spec, status = deployment["spec"], deployment.get("status", {})
    wanted = int(spec.get("replicas", 1))
    if int(status.get("updatedReplicas", 0)) < wanted:
        return Waiting("the new pod is not there yet")
    if int(status.get("availableReplicas", 0)) < wanted:
        return Waiting("the new pod is not available yet")
    if int(status.get("replicas", 0)) > int(status.get("updatedReplicas", 0)):
        return Waiting("an old pod is still there")
    own = {pod["metadata"]["name"] for pod in pods}
    lost = {pod["metadata"]["name"] for pod in seen.pods if _is_ending(pod) and age(pod) > LOST_SECONDS}
    every = [endpoint for one in seen.slices for endpoint in one.get("endpoints") or []]
    endpoints = [one for one in every if not (_serves_no_more(one) and _pod_name(one) in lost)]
    if not own & {_pod_name(endpoint) for endpoint in endpoints if _is_ready(endpoint)}:
        return Waiting("the Service has no endpoint of the new pod yet")
    # Proxies and ingresses follow the endpoints with a lag, and a pod that is ending still answers for a while (seen):
    # the URL is known to be the new revision's only when no old endpoint is left at all.
    if not own >= set(map(_pod_name, endpoints)):
        return Waiting("an old pod has not ended yet")
    active = _active(pods)
    return Ready(sum(map(_restarts, active)), max(map(_running_since, active), default=""))


def _restarts(pod: Object) -> int:
    return int(_container(pod).get("restartCount", 0))


def _running_since(pod: Object) -> str:
    return str(_container(pod).get("state", {}).get("running", {}).get("startedAt", ""))


def _is_ready(endpoint: Object) -> bool:
    """Unknown counts as ready (EndpointSlice's own rule)."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def _serves_no_more(endpoint: Object) -> bool:
    conditions = endpoint.get("conditions") or {}
    return conditions.get("terminating") is True and conditions.get("serving") is False


def _pod_name(endpoint: Object) -> str:
    return str((endpoint.get("targetRef") or {}).get("name", ""))


def _refused(replica_set: Object, events: Sequence[Object], age: Ages, *, whatever: bool = False) -> Broken | None:
    """Pods that admission or quota refuses show only in the ReplicaSet (seen; facts.md).

    Anything else, which counts with `whatever`, passes by itself, for pods are tried to be made again and again: a
    webhook that does not answer, a service account that is not there yet.
    """
    failing = _condition(replica_set, "ReplicaFailure", "True")
    if failing is None or age(replica_set) < REFUSED_GRACE:
        return None
    told = [event for event in events if event.get("reason") == "FailedCreate"]
    words = str(told[-1].get("message") if told else failing.get("message", ""))
    return Broken("FailedCreate", words) if whatever or is_refusal(words) else None


def _active(pods: Sequence[Object]) -> list[Object]:
    """Without those that end, and those that failed: they stay for ever, beside the one that takes their place."""
    return [pod for pod in pods if not _is_ending(pod) and pod.get("status", {}).get("phase") != "Failed"]


def _is_ending(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _last_words(pods: Sequence[Object], events: Sequence[Object]) -> str:
    """What was said last of pods that do not run: their network is made, or their image pulled."""
    about = _about(pods, events)
    return f"{about[-1].get('reason')}: {about[-1].get('message', '')}" if about else ""


def _first_broken(pods: Sequence[Object], age: Ages, schedule_grace: float) -> Broken | None:
    found = (_pod_broken(pod, age(pod), schedule_grace) for pod in pods)
    return next((broken for broken in found if broken is not None), None)


def _pod_broken(pod: Object, age: float, schedule_grace: float) -> Broken | None:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return Broken(str(status["reason"]), str(status.get("message", "")), name)
    unscheduled = _condition(pod, "PodScheduled", "False")
    if unscheduled is not None and age > schedule_grace:
        return Broken("Unschedulable", str(unscheduled.get("message", "")), name)
    return _container_broken(_container(pod), name, age)


def _container(pod: Object) -> dict[str, Any]:
    found = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in found if one["name"] == APP), {})


def _container_broken(container: dict[str, Any], pod: str, age: float) -> Broken | None:
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in UNPULLABLE or (reason in CONFIG_ERRORS and age > CONFIG_GRACE):
        return Broken(reason, message, pod)
    ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
    if ended is None or reason != "CrashLoopBackOff":
        return None
    if ended.get("reason") in CANNOT_RUN:
        return Broken(str(ended["reason"]), str(ended.get("message", "")), pod)
    oom = ended.get("reason") == "OOMKilled"
    return Broken(
        "OOMKilled" if oom else reason,
        message,
        pod,
        exit_code=ended.get("exitCode"),
        restarts=int(container.get("restartCount", 0)),
    )


def _for_ever(_: Object) -> float:
    return math.inf


def _killed_by_probe(broken: Broken, pods: Sequence[Object], events: Sequence[Object]) -> Broken | None:
    """An app that the kubelet restarts for its probes did not crash by itself."""
    killed = any("probe" in message for message in _told(pods, events, "Killing"))
    probes = _told(pods, events, "Unhealthy")
    if broken.reason != "CrashLoopBackOff" or not killed or not probes:
        return None
    # What ended it says more than what is seen while it starts again.
    words = ([one for one in probes if one.startswith("Liveness")] or probes)[-1]
    return replace(broken, reason="Unhealthy", message=words, was_ready=any(map(_was_ready, pods)))


def _was_ready(pod: Object) -> bool:
    """Whether its readiness has changed since it began: what never was ready is unready since then."""
    ready, began = _condition(pod, "Ready", "False"), _condition(pod, "Initialized", "True")
    if ready is None or began is None:
        return False
    return str(ready.get("lastTransitionTime", "")) > str(began.get("lastTransitionTime", ""))


def _told(pods: Sequence[Object], events: Sequence[Object], reason: str) -> list[str]:
    """What events of that reason say about these pods."""
    return [str(event.get("message", "")) for event in _about(pods, events) if event.get("reason") == reason]


def _about(pods: Sequence[Object], events: Sequence[Object]) -> list[Object]:
    uids = {pod["metadata"]["uid"] for pod in pods}
    return [event for event in events if event.get("involvedObject", {}).get("uid") in uids]


def _condition(found: Object, kind: str, status: str) -> dict[str, Any] | None:
    conditions = found.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind and one["status"] == status), None)


def _annotations(found: Object) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def _owners(found: Object) -> set[str]:
    return {str(owner["uid"]) for owner in found["metadata"].get("ownerReferences", [])}
