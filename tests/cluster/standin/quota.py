"""ResourceQuotas: what a namespace has used, and the refusal of what would exceed it."""

from __future__ import annotations

from tests.cluster.standin.quantities import amount, total
from tests.cluster.standin.resources import BY_KIND, Resource
from tests.cluster.standin.status import forbidden
from tests.cluster.standin.storage import Storage
from tests.cluster.standin.values import Object, at, items, mapping

COMPUTE = ("cpu", "memory", "ephemeral-storage")
QUOTAS = BY_KIND["ResourceQuota"]
OLD_NAMES = {
    *("pods", "services", "secrets", "configmaps", "persistentvolumeclaims", "resourcequotas"),
    "replicationcontrollers",
}


def enforce(storage: Storage, resource: Resource, obj: Object) -> None:
    """ApiError 403 if an object would exceed a quota of its namespace; else its quotas' status counts it."""
    namespace, name = obj["metadata"]["namespace"], obj["metadata"].get("name", "")
    added = usage(resource, obj)
    for found in storage.scan(QUOTAS, namespace):
        hard = mapping(found, "spec", "hard")
        asked = {key: value for key, value in added.items() if key in hard}
        missing = sorted(key for key in hard if _compute(key) and resource.kind == "Pod" and key not in added)
        if missing:
            why = f"failed quota: {found['metadata']['name']}: must specify {_must(obj, missing)}"
            raise forbidden(resource.group, resource.plural, name, why)
        used = used_in(storage, namespace, list(asked))
        over = [key for key in asked if amount(used[key]) + amount(asked[key]) > amount(hard[key])]
        if over:
            why = (
                f"exceeded quota: {found['metadata']['name']}, requested: {_pairs(asked, over)}, "
                f"used: {_pairs(used, over)}, limited: {_pairs(hard, over)}"
            )
            raise forbidden(resource.group, resource.plural, name, why)


def usage(resource: Resource, obj: Object) -> dict[str, str]:
    """What one object counts."""
    plural = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    counted = {f"count/{plural}": "1"}
    if not resource.group and resource.plural in OLD_NAMES:
        counted[resource.plural] = "1"
    if resource.kind == "Service":
        kind = at(obj, "spec", "type")
        counted["services.loadbalancers"] = "1" if kind == "LoadBalancer" else "0"
        counted["services.nodeports"] = str(len(items(obj, "spec", "ports"))) if kind == "NodePort" else "0"
    if resource.kind == "Pod":
        if at(obj, "status", "phase") in ("Succeeded", "Failed"):
            return {f"count/{plural}": "1"}
        counted |= _compute_usage(obj)
    return counted


def _compute_usage(pod: Object) -> dict[str, str]:
    """Requests and limits, summed over the containers that say them."""
    counted: dict[str, str] = {}
    for group in ("requests", "limits"):
        for unit in COMPUTE:
            values = [at(each, "resources", group, unit) for each in items(pod, "spec", "containers")]
            if values and all(value is not None for value in values):
                counted[f"{group}.{unit}"] = total(values)
                if group == "requests":
                    counted[unit] = counted[f"{group}.{unit}"]
    return counted


def used_in(storage: Storage, namespace: str, keys: list[str]) -> dict[str, str]:
    """What a namespace uses of these."""
    sums: dict[str, list[str]] = {key: ["0"] for key in keys}
    for resource in BY_KIND.values():
        if not resource.namespaced or resource.create_only:
            continue
        for obj in storage.scan(resource, namespace):
            for key, value in usage(resource, obj).items():
                if key in sums:
                    sums[key].append(value)
    return {key: total(values) for key, values in sums.items()}


def _compute(key: str) -> bool:
    return key.removeprefix("requests.").removeprefix("limits.") in COMPUTE


def _must(pod: Object, missing: list[str]) -> str:
    containers = ",".join(str(each["name"]) for each in items(pod, "spec", "containers"))
    return "; ".join(f"{key} for: {containers}" for key in missing)


def _pairs(values: Object, keys: list[str]) -> str:
    return ",".join(f"{key}={values[key]}" for key in sorted(keys))
