"""Admission: what a namespace allows beyond what is valid."""

from __future__ import annotations

from tests.cluster.standin.resources import BY_KIND, Resource
from tests.cluster.standin.status import forbidden, not_found
from tests.cluster.standin.storage import Storage
from tests.cluster.standin.values import Object, at

NAMESPACE = BY_KIND["Namespace"]


def namespace_of(storage: Storage, resource: Resource, obj: Object) -> Object:
    """The namespace that an object is made in; ApiError 404 if it is not there, 403 if it is going."""
    name = obj["metadata"].get("namespace", "")
    found = storage.get(NAMESPACE, (None, name))
    if found is None:
        raise not_found("", "namespaces", name)
    if at(found, "status", "phase") == "Terminating":
        why = f"unable to create new content in namespace {name} because it is being terminated"
        raise forbidden(resource.group, resource.plural, obj["metadata"].get("name", ""), why)
    return found


def mutate(storage: Storage, resource: Resource, obj: Object) -> None:
    """What admission adds to a new object."""


def validate(storage: Storage, resource: Resource, obj: Object, old: Object | None) -> None:
    """ApiError 403 for what the namespace does not allow."""
