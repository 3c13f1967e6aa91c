"""A pod's status as the kubelet tells it, from the states of its containers."""

from __future__ import annotations

from typing import Any

from tests.cluster.standin.controllers.conditions import find, put
from tests.cluster.standin.values import clone

Object = dict[str, Any]


def phase_of(pod: Object, statuses: list[Object]) -> str:
    """The phase; a pod whose containers all ended for good is told later (see `PodWorker`)."""
    if all("waiting" in one["state"] and not one["restartCount"] for one in statuses):
        return "Pending"
    return "Running"


def final_phase(statuses: list[Object]) -> str:
    """The phase of a pod whose containers have all ended."""
    codes = [one["state"].get("terminated", {}).get("exitCode", 0) for one in statuses]
    return "Failed" if any(codes) else "Succeeded"


def status_of(pod: Object, statuses: list[Object], phase: str, now: str, address: dict[str, str]) -> Object:
    """The status with its conditions; `address` has `hostIP` and `podIP`, as soon as there are any."""
    told: Object = clone(pod["status"])
    told |= {"phase": phase, "containerStatuses": clone(statuses), **address}
    told.setdefault("startTime", now)
    if "podIP" in address:
        told |= {"podIPs": [{"ip": address["podIP"]}], "hostIPs": [{"ip": address["hostIP"]}]}
    conditions = told.setdefault("conditions", [])
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    put(conditions, "PodReadyToStartContainers", not over and "podIP" in address, now)
    put(conditions, "Initialized", True, now, reason="PodCompleted" if over == "PodCompleted" else "")
    unready = [one["name"] for one in statuses if not one["ready"]]
    message = f"containers with unready status: [{' '.join(unready)}]" if unready and not over else ""
    reason = over or ("ContainersNotReady" if unready else "")
    for kind in ("ContainersReady", "Ready"):
        put(conditions, kind, not unready and not over, now, reason=reason, message=message)
    if find(conditions, "PodScheduled") is None:
        put(conditions, "PodScheduled", True, now)
    for one in conditions:
        one["observedGeneration"] = pod["metadata"].get("generation", 1)
    told["observedGeneration"] = pod["metadata"].get("generation", 1)
    return told
