"""What the server says about itself: version, groups, resources, health."""

from __future__ import annotations

from tests.cluster.standin.resources import GROUPS, RESOURCES, Resource
from tests.cluster.standin.values import Object

VERSION: Object = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-06-01T00:00:00Z",
    "goVersion": "go1.26.0",
    "compiler": "gc",
    "platform": "linux/amd64",
}
HEALTH = ("/healthz", "/livez", "/readyz")


def answer(path: str) -> Object | str | None:
    """The answer at a path that belongs to no resource; None if there is nothing."""
    path = path.rstrip("/") or "/"
    if path in HEALTH:
        return "ok"
    if path == "/version":
        return VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in GROUPS if group]}
    if path == "/api/v1":
        return _resources("", "v1")
    parts = path.removeprefix("/apis/").split("/")
    if path.startswith("/apis/") and parts[0] in GROUPS:
        if len(parts) == 1:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[0])}
        if parts[1:] == ["v1"]:
            return _resources(parts[0], "v1")
    return None


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str, version: str) -> Object:
    found: list[Object] = []
    for resource in RESOURCES:
        if resource.group == group:
            found.append(_entry(resource))
            if resource.status:
                verbs = ["get", "patch", "update"]
                part = {"name": f"{resource.plural}/status", "singularName": "", "verbs": verbs}
                found.append({"namespaced": resource.namespaced, "kind": resource.kind, **part})
    if not group:
        pods_log = {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]}
        found.append(pods_log)
    whole = f"{group}/{version}" if group else version
    spoken = {"apiVersion": "v1"} if group else {}  # the oldest group's answer is older than that field
    return {"kind": "APIResourceList", **spoken, "groupVersion": whole, "resources": found}


def _entry(resource: Resource) -> Object:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        **({"shortNames": [resource.short]} if resource.short else {}),
    }
