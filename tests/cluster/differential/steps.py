"""How a question to an API server is written down: one `Step` a request, ordered in a `Scenario`.

Every string of a step may name variables as `${name}`: `${ns}` and `${other}` are the scenario's own namespaces, the
rest was kept from earlier answers (`keep={"uid": "metadata.uid"}`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Any
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

GROUPS: dict[str, Sequence[str]] = {
    "/api/v1": (
        *("namespaces", "configmaps", "secrets", "services", "serviceaccounts", "pods", "events"),
        *("resourcequotas", "limitranges", "persistentvolumeclaims"),
    ),
    "/apis/apps/v1": ("deployments", "replicasets", "statefulsets"),
    "/apis/batch/v1": ("jobs", "cronjobs"),
    "/apis/networking.k8s.io/v1": ("ingresses", "networkpolicies", "ingressclasses"),
    "/apis/discovery.k8s.io/v1": ("endpointslices",),
    "/apis/rbac.authorization.k8s.io/v1": ("roles", "rolebindings", "clusterroles", "clusterrolebindings"),
    "/apis/policy/v1": ("poddisruptionbudgets",),
    "/apis/authorization.k8s.io/v1": ("selfsubjectaccessreviews",),
    "/apis/coordination.k8s.io/v1": ("leases",),
}
PREFIX = {resource: prefix for prefix, resources in GROUPS.items() for resource in resources}
CLUSTER_WIDE = {"namespaces", "ingressclasses", "clusterroles", "clusterrolebindings", "selfsubjectaccessreviews"}


@dataclass(frozen=True)
class Answer:
    """What came back: a watch's events are a list, text that is no JSON a string."""

    code: int
    media: str
    warnings: tuple[str, ...]
    body: Json


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request, and the status code that its writer believes in (checked where there is nothing to compare with)."""

    title: str
    code: int
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Json = None  # a string is sent as it is
    keep: Mapping[str, str] = field(default_factory=dict)  # variable: dotted path in the answer
    until: Callable[[Answer], bool] | None = None  # what controllers do takes its time: ask again until this holds
    account: str = ""  # a service account of the scenario's namespace; the administrator when empty


@dataclass(frozen=True)
class Scenario:
    """Steps that build on each other, in namespaces that nobody else uses."""

    name: str
    steps: Sequence[Step]
    labels: Mapping[str, str] = field(default_factory=dict)  # of both namespaces


def at(resource: str, name: str = "", sub: str = "", *, space: str = "${ns}") -> str:
    """The path of a collection, an object or a subresource."""
    where = "" if resource in CLUSTER_WIDE or not space else f"/namespaces/{space}"
    tail = "".join(f"/{part}" for part in (name, sub) if part)
    return f"{PREFIX[resource]}{where}/{resource}{tail}"


def create(code: int, title: str, resource: str, body: Json, *, space: str = "${ns}", **more: Any) -> Step:
    """POST to the collection."""
    return Step(title=title, code=code, method="POST", path=at(resource, space=space), body=body, **more)


def read(code: int, title: str, resource: str, name: str, *, sub: str = "", space: str = "${ns}", **more: Any) -> Step:
    """GET one object."""
    return Step(title=title, code=code, method="GET", path=at(resource, name, sub, space=space), **more)


def listing(code: int, title: str, resource: str, *, space: str = "${ns}", **more: Any) -> Step:
    """GET a collection."""
    return Step(title=title, code=code, method="GET", path=at(resource, space=space), **more)


def watch(title: str, resource: str, since: str, *, code: int = 200, space: str = "${ns}", **query: str) -> Step:
    """Everything that happened since a version; the server ends it after a second."""
    asked = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "1", **query}
    return Step(title=title, code=code, method="GET", path=at(resource, space=space), query=asked)


def replace(code: int, title: str, resource: str, body: Json, *, name: str = "", sub: str = "", **more: Any) -> Step:
    """PUT an object under its own name, or under another one."""
    path = at(resource, name or body["metadata"]["name"], sub, space=more.pop("space", "${ns}"))
    return Step(title=title, code=code, method="PUT", path=path, body=body, **more)


def apply(code: int, title: str, resource: str, body: Json, *, manager: str = "alpha", **more: Any) -> Step:
    """Server-side apply; `force=True` takes fields from other managers, `name=` overrides the body's."""
    query = {"fieldManager": manager, **more.pop("query", {})}
    if "force" in more:
        query["force"] = str(more.pop("force")).lower()
    path = at(resource, more.pop("name", None) or body["metadata"]["name"], space=more.pop("space", "${ns}"))
    headers = {"Content-Type": APPLY, **more.pop("headers", {})}
    return Step(title=title, code=code, method="PATCH", path=path, query=query, headers=headers, body=body, **more)


def patch(code: int, title: str, resource: str, name: str, body: Json, *, kind: str = MERGE_PATCH, **more: Any) -> Step:
    """Merge patch, or JSON patch by `kind`."""
    path = at(resource, name, more.pop("sub", ""), space=more.pop("space", "${ns}"))
    return Step(title=title, code=code, method="PATCH", path=path, headers={"Content-Type": kind}, body=body, **more)


def delete(code: int, title: str, resource: str, name: str = "", *, space: str = "${ns}", **options: Any) -> Step:
    """DELETE an object, or without a name a collection; `propagation`, `uid`, `version` become DeleteOptions."""
    body: dict[str, Json] = {}
    if propagation := options.pop("propagation", None):
        body["propagationPolicy"] = propagation
    wanted = {"uid": options.pop("uid", None), "resourceVersion": options.pop("version", None)}
    if preconditions := {key: value for key, value in wanted.items() if value}:
        body["preconditions"] = preconditions
    path = at(resource, name, space=space)
    return Step(title=title, code=code, method="DELETE", path=path, body=body or None, **options)


def gone(title: str, resource: str, name: str, *, space: str = "${ns}") -> Step:
    """Wait until a garbage collector took the object."""
    return read(404, title, resource, name, space=space, until=lambda answer: answer.code == 404)
