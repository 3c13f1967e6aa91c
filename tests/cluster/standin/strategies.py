"""What each kind does to an object before it is stored: allocations, generated selectors, what a request can't set."""

from __future__ import annotations

import base64
from itertools import count

from tests.cluster.standin.resources import Resource
from tests.cluster.standin.values import Object, at, items

GENERATIONS = {
    *("Pod", "Deployment", "ReplicaSet", "StatefulSet", "Job", "CronJob", "Ingress", "IngressClass"),
    *("NetworkPolicy", "PodDisruptionBudget", "EndpointSlice"),
}
# What the status subresource of a fresh object starts with.
FRESH_STATUS: dict[str, Object] = {
    "Namespace": {"phase": "Active"},
    "Pod": {"phase": "Pending"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "Service": {"loadBalancer": {}},
    "Ingress": {"loadBalancer": {}},
    "ReplicaSet": {"replicas": 0},
    "StatefulSet": {"replicas": 0, "availableReplicas": 0},
}
SPECIAL = ("apiVersion", "kind", "metadata", "status")
SERVICE_NETWORK = "10.96"


class Allocator:
    """Cluster addresses and node ports, each given once."""

    def __init__(self) -> None:
        self._addresses = count(10)
        self._ports = count(30000)

    def address(self) -> str:
        number = next(self._addresses)
        return f"{SERVICE_NETWORK}.{number // 250}.{number % 250 + 1}"

    def port(self) -> int:
        return next(self._ports)


def strip_status(resource: Resource, obj: Object) -> None:
    """A request to the main resource can't set the status."""
    if resource.status:
        obj.pop("status", None)
        obj["status"] = dict(FRESH_STATUS.get(resource.kind, {}))


def before_create(resource: Resource, obj: Object, allocator: Allocator) -> None:
    if resource.kind in GENERATIONS:
        obj["metadata"]["generation"] = 1
    if resource.kind == "Service":
        allocate(obj, allocator)
    elif resource.kind == "Job":
        own_selector(obj)
    elif resource.kind == "Namespace":
        obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
    elif resource.kind == "Pod":
        obj["status"]["qosClass"] = quality(obj)


def before_update(resource: Resource, old: Object, new: Object, subresource: str | None, allocator: Allocator) -> None:
    """Keeps what this request can't change, and counts the generation up when what is wanted changed."""
    if subresource == "status":
        for key in wanted(new):
            del new[key]
        new.update(wanted(old))
        _keep_labels(old, new)
    elif resource.status:
        new["status"] = old.get("status", {})
    if resource.kind == "Service" and subresource is None:
        _keep_addresses(old, new)
        allocate(new, allocator)
    if resource.kind in GENERATIONS:
        generation = old["metadata"].get("generation", 1)
        changed = wanted(old) != wanted(new)
        new["metadata"]["generation"] = generation + 1 if changed else generation


def _keep_labels(old: Object, new: Object) -> None:
    """A write of the status can change annotations, but none of these."""
    for key in ("labels", "ownerReferences", "finalizers"):
        new["metadata"].pop(key, None)
        if key in old["metadata"]:
            new["metadata"][key] = old["metadata"][key]


def wanted(obj: Object) -> Object:
    """What the generation counts: everything but metadata and status."""
    return {key: value for key, value in obj.items() if key not in SPECIAL}


def merge_string_data(obj: Object) -> None:
    """A Secret's `stringData` is only ever written: it ends up in `data`."""
    texts = obj.pop("stringData", None) or {}
    if texts:
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        obj["data"] = {**(obj.get("data") or {}), **coded}


def allocate(obj: Object, allocator: Allocator) -> None:
    """Cluster address, address family and node ports of a Service."""
    spec = obj.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return
    if not spec.get("clusterIP"):
        spec["clusterIP"] = (items(spec, "clusterIPs") or [allocator.address()])[0]
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("type") in ("NodePort", "LoadBalancer") and spec.get("allocateLoadBalancerNodePorts", True):
        for port in items(spec, "ports"):
            if "nodePort" not in port:
                port["nodePort"] = allocator.port()


def _keep_addresses(old: Object, new: Object) -> None:
    """A replacement that leaves the allocated fields out keeps them."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if after.get("type") == "ExternalName" or before.get("type") == "ExternalName":
        return
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"):
        if key in before and key not in after:
            after[key] = before[key]
    ports = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in items(before, "ports")}
    if after.get("type") in ("NodePort", "LoadBalancer"):
        for port in items(after, "ports"):
            known = ports.get((port.get("port"), port.get("protocol")))
            if known and "nodePort" not in port:
                port["nodePort"] = known


def own_selector(obj: Object) -> None:
    """A Job selects its own pods by its uid, unless it says that it brings a selector."""
    spec = obj.get("spec") or {}
    if spec.get("manualSelector"):
        return
    metadata = spec.setdefault("template", {}).setdefault("metadata", {})
    uid, name = obj["metadata"]["uid"], obj["metadata"].get("name", "")
    labels = metadata.setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels |= {f"{prefix}controller-uid": uid, f"{prefix}job-name": name}
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})


def quality(pod: Object) -> str:
    """The pod's quality of service, from its containers' requests and limits."""
    containers = [*items(pod, "spec", "containers"), *items(pod, "spec", "initContainers")]
    pairs = [(_counted(each, "requests"), _counted(each, "limits")) for each in containers]
    if not any(requests or limits for requests, limits in pairs):
        return "BestEffort"
    same = all(
        limits.get(unit) is not None and requests.get(unit, limits[unit]) == limits[unit]
        for requests, limits in pairs
        for unit in ("cpu", "memory")
    )
    return "Guaranteed" if same else "Burstable"


def _counted(container: Object, kind: str) -> Object:
    """Of what a container asks for, what its quality of service depends on."""
    amounts = at(container, "resources", kind) or {}
    return {unit: amount for unit, amount in amounts.items() if unit in ("cpu", "memory")}
