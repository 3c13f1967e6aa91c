"""The scheduler of a cluster of one node: a pod that fits goes there, one that does not stays Pending and says why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.cluster.standin.controllers.base import Controller, Key, Tools, is_going, key_of
from tests.cluster.standin.controllers.conditions import put
from tests.cluster.standin.controllers.pods import is_over
from tests.cluster.standin.quantities import amount
from tests.cluster.standin.script import Scripts
from tests.cluster.standin.values import clone

Object = dict[str, Any]
COMPONENT = "default-scheduler"
RETRY = 5.0
NO_VICTIMS = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pods."
NO_HELP = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."


@dataclass(frozen=True)
class Node:
    """The node. Large by default: a test that wants it small says so.

    Attributes:
        system_cpu: what the cluster's own pods ask for; so a pod that asks for all of a small node never fits.
    """

    name: str = "node-1"
    address: str = "192.168.49.2"
    cpu: str = "64"
    memory: str = "256Gi"
    ephemeral_storage: str = "1Ti"
    system_cpu: str = "950m"
    pods: int = 1000
    labels: Mapping[str, str] = field(default_factory=lambda: {"kubernetes.io/os": "linux"})
    taints: tuple[Mapping[str, str], ...] = ()

    def allocatable(self) -> dict[str, Decimal]:
        """What pods can ask for."""
        return {
            "cpu": amount(self.cpu) - amount(self.system_cpu),
            "memory": amount(self.memory),
            "ephemeral-storage": amount(self.ephemeral_storage),
        }


class Scheduler(Controller):
    """Binds pods to the node."""

    watches = frozenset({"Pod"})
    delay = 0.005

    def __init__(self, tools: Tools, node: Node, scripts: Scripts) -> None:
        super().__init__(tools)
        self._node = node
        self._scripts = scripts
        self._allocatable = node.allocatable()
        self._bound: dict[Key, Object] = {}
        self._asked = dict.fromkeys(self._allocatable, Decimal(0))

    def notice(self, event: str, obj: Object) -> None:
        """Also keep count of what the node's pods ask for."""
        if obj["kind"] == "Pod":
            there = event != "DELETED" and "nodeName" in obj["spec"] and not is_over(obj)
            if there is not (key_of(obj) in self._bound):
                pod = obj if there else self._bound[key_of(obj)]
                for resource in self._asked:
                    self._asked[resource] += requested(pod, resource) * (1 if there else -1)
            self._bound.pop(key_of(obj), None)
            if there:
                self._bound[key_of(obj)] = obj
        super().notice(event, obj)

    def keys(self, obj: Object) -> Iterable[Key]:
        """Itself, while it has no node; when one ends, those that wait."""
        if is_over(obj) or is_going(obj):
            return [key_of(pod) for pod in self.tools.cache.all("Pod") if _waits(pod)]
        return [key_of(obj)] if _waits(obj) else []

    def reconcile(self, key: Key) -> None:
        """Bind it, or say why not and try again later."""
        pod = self.tools.cache.get("Pod", key)
        if pod is None or not _waits(pod):
            return
        if problem := self._problem(pod):
            self._refuse(pod, problem)
            self.revisit(key, RETRY)
            return
        bound = clone(pod)
        bound["spec"]["nodeName"] = self._node.name
        bound = self.tools.store.update(bound, manager="kube-scheduler", subresource="binding")
        put(bound["status"].setdefault("conditions", []), "PodScheduled", True, self.tools.clock.stamp())
        self.tools.store.update(bound, manager="kube-scheduler", subresource="status")
        message = f"Successfully assigned {key[0]}/{key[1]} to {self._node.name}"
        self.tools.events.normal(pod, "Scheduled", message, by=COMPONENT)

    def _refuse(self, pod: Object, problem: str) -> None:
        self.tools.events.warning(pod, "FailedScheduling", problem, by=COMPONENT)
        changed, now = clone(pod), self.tools.clock.stamp()
        conditions = changed["status"].setdefault("conditions", [])
        put(conditions, "PodScheduled", False, now, reason="Unschedulable", message=problem)
        if changed != pod:
            self.tools.store.update(changed, manager="kube-scheduler", subresource="status")

    def _problem(self, pod: Object) -> str:
        """Why the node can't take it; empty if it can."""
        if scripted := self._scripts.unschedulable(pod):
            return scripted
        if not _selected(pod, self._node.labels):
            return f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {NO_HELP}"
        if not all(_tolerates(pod, taint) for taint in self._node.taints):
            return f"0/1 nodes are available: 1 node(s) had untolerated taint(s). {NO_HELP}"
        if lacking := self._lacking(pod):
            return f"0/1 nodes are available: {', '.join(f'1 {what}' for what in lacking)}. {NO_VICTIMS}"
        return ""

    def _lacking(self, pod: Object) -> list[str]:
        lacking = [] if len(self._bound) < self._node.pods else ["Too many pods"]
        for resource, whole in self._allocatable.items():
            if (wanted := requested(pod, resource)) and wanted + self._asked[resource] > whole:
                lacking.append(f"Insufficient {resource}")
        return lacking


def requested(pod: Object, resource: str) -> Decimal:
    """What all containers of a pod ask for together."""
    each = (container.get("resources", {}).get("requests", {}) for container in pod["spec"]["containers"])
    return sum((amount(one[resource]) for one in each if resource in one), Decimal(0))


def _waits(pod: Object) -> bool:
    return "nodeName" not in pod["spec"] and not is_over(pod) and not is_going(pod)


def _selected(pod: Object, labels: Mapping[str, str]) -> bool:
    return bool(pod["spec"].get("nodeSelector", {}).items() <= labels.items())


def _tolerates(pod: Object, taint: Mapping[str, str]) -> bool:
    def fits(one: Object) -> bool:
        value = one.get("operator", "Equal") == "Exists" or one.get("value", "") == taint.get("value", "")
        return one.get("key") in (None, taint["key"]) and value and one.get("effect") in (None, taint["effect"])

    return any(map(fits, pod["spec"].get("tolerations", [])))
