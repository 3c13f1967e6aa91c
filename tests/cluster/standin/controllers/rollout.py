"""How a rollout stands, as pure functions of a Deployment and its ReplicaSets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tests.cluster.standin.clock import moment, stamp
from tests.cluster.standin.controllers.conditions import condition, find, put
from tests.cluster.standin.values import clone

Object = dict[str, Any]
DONE, LATE = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
REPLICA_FAILURE_SHOWS_AFTER = timedelta(seconds=120)
"""Seen on a real cluster: for minutes a Deployment's own conditions say nothing of pods that are refused."""
COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def limits(deployment: Object) -> tuple[int, int]:
    """MaxSurge and maxUnavailable as numbers: percentages are rounded up and down, and both are never 0."""
    rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
    desired = deployment["spec"]["replicas"]
    surge = math.ceil(_share(rolling.get("maxSurge", "25%"), desired))
    unavailable = math.floor(_share(rolling.get("maxUnavailable", "25%"), desired))
    return surge, unavailable if surge or unavailable else 1


def _share(value: int | str, whole: int) -> float:
    return float(value) if isinstance(value, int) else whole * int(value.removesuffix("%")) / 100


def patience(deployment: Object) -> timedelta:
    """How long a rollout may stand still."""
    return timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", 600))


def scaled_down(old: list[Object], new: Object, least: int) -> Iterator[tuple[Object, int]]:
    """Which old ReplicaSets get which size, so that `least` replicas stay available: unhealthy ones go first."""
    sizes = [int(one["spec"]["replicas"]) for one in old]
    budget = sum(sizes) + new["spec"]["replicas"] - least - (new["spec"]["replicas"] - _available(new))
    if budget <= 0:
        return
    for index, one in enumerate(old):
        unhealthy = min(sizes[index] - _available(one), budget)
        sizes[index], budget = sizes[index] - unhealthy, budget - unhealthy
    surplus = sum(map(_available, old)) + _available(new) - least
    for index in range(len(old)):
        fewer = min(sizes[index], max(surplus, 0))
        sizes[index], surplus = sizes[index] - fewer, surplus - fewer
    yield from ((one, size) for one, size in zip(old, sizes, strict=True) if size != one["spec"]["replicas"])


def _available(replica_set: Object) -> int:
    return int(replica_set.get("status", {}).get("availableReplicas", 0))


def is_complete(deployment: Object, status: Object) -> bool:
    """Whether only the present template runs, as often as wanted, and is available."""
    desired = deployment["spec"]["replicas"]
    counts = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas"))
    return all(count == desired for count in counts) and (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    )


def status(deployment: Object, sets: list[Object], current: str, now: datetime, *, made: bool) -> Object:
    """The Deployment's status; `current` is the uid of the template's ReplicaSet, `made` that it is new."""
    new = next(one for one in sets if one["metadata"]["uid"] == current)
    before = deployment.get("status", {})
    counts = _counts(deployment, sets, new)
    told: Object = {name: counts[name] for name in COUNTS if counts[name]}
    told["observedGeneration"] = deployment["metadata"]["generation"]
    told |= {"collisionCount": before["collisionCount"]} if "collisionCount" in before else {}
    told["conditions"] = clone(before.get("conditions", []))
    _tell_available(deployment, told, now)
    _tell_progress(deployment, told, new["metadata"]["name"], now, made=made)
    _tell_failure(told, sets, now)
    return told


def _counts(deployment: Object, sets: list[Object], new: Object) -> dict[str, int]:
    def summed(name: str, *of: Object) -> int:
        return sum(one.get("status", {}).get(name, 0) for one in of)

    available = summed("availableReplicas", *sets)
    total = sum(one["spec"]["replicas"] for one in sets)
    return {
        "replicas": summed("replicas", *sets),
        "updatedReplicas": summed("replicas", new),
        "readyReplicas": summed("readyReplicas", *sets),
        "availableReplicas": available,
        "unavailableReplicas": max(total - available, 0),
    }


def _tell_available(deployment: Object, told: Object, now: datetime) -> None:
    _, unavailable = limits(deployment)
    enough = told.get("availableReplicas", 0) >= deployment["spec"]["replicas"] - unavailable
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    message = f"Deployment {'has' if enough else 'does not have'} minimum availability."
    _put(told["conditions"], "Available", enough, now, reason, message)


def _tell_progress(deployment: Object, told: Object, name: str, now: datetime, *, made: bool) -> None:
    conditions, before = told["conditions"], deployment.get("status", {})
    known = find(conditions, "Progressing")
    if made:
        _put(conditions, "Progressing", True, now, "NewReplicaSetCreated", f'Created new replica set "{name}"')
    elif known is None:
        _put(conditions, "Progressing", True, now, "FoundNewReplicaSet", f'Found new replica set "{name}"')
    elif told.get("replicas") == told.get("updatedReplicas") and known["reason"] == DONE:
        return
    elif is_complete(deployment, told):
        _put(conditions, "Progressing", True, now, DONE, f'ReplicaSet "{name}" has successfully progressed.')
    elif _progressed(before, told):
        _put(conditions, "Progressing", True, now, "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    elif known["reason"] not in (DONE, LATE) and moment(known["lastUpdateTime"]) + patience(deployment) < now:
        _put(conditions, "Progressing", False, now, LATE, f'ReplicaSet "{name}" has timed out progressing.')


def _progressed(before: Object, told: Object) -> bool:
    def old(of: Object) -> int:
        return int(of.get("replicas", 0) - of.get("updatedReplicas", 0))

    more = any(told.get(name, 0) > before.get(name, 0) for name in COUNTS[1:4])
    return more or old(told) < old(before)


def _tell_failure(told: Object, sets: list[Object], now: datetime) -> None:
    failures = [failure for one in sets if (failure := condition(one, "ReplicaFailure"))]
    old = [one for one in failures if moment(one["lastTransitionTime"]) + REPLICA_FAILURE_SHOWS_AFTER <= now]
    known = find(told["conditions"], "ReplicaFailure")
    if old:
        _put(told["conditions"], "ReplicaFailure", True, now, old[0]["reason"], old[0]["message"])
    elif known is not None:
        told["conditions"].remove(known)


def _put(conditions: list[Object], kind: str, holds: bool, now: datetime, reason: str, message: str) -> None:
    known = clone(find(conditions, kind))
    made = put(conditions, kind, holds, stamp(now), reason=reason, message=message)
    same = known is not None and known["status"] == made["status"] and known["reason"] == reason
    made["lastUpdateTime"] = known["lastUpdateTime"] if known and same and kind != "Progressing" else stamp(now)
