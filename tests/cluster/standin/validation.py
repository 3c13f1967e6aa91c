"""What an object of each kind must look like, and what an update must not change: metadata, and the rules by kind."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.standin import (
    names,
    validation_config,
    validation_network,
    validation_pods,
    validation_rbac,
    validation_workloads,
)
from tests.cluster.standin.checks import annotation_map, invalid, label_map, must_name, named, required
from tests.cluster.standin.resources import Resource
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, items, mapping

FINALIZERS = ("foregroundDeletion", "orphan", "kubernetes")  # those that need no domain

Rule = Callable[[Object], list[Cause]]
UpdateRule = Callable[[Object, Object], list[Cause]]

RULES: dict[str, Rule] = {
    **validation_config.RULES,
    **validation_network.RULES,
    **validation_pods.RULES,
    **validation_rbac.RULES,
    **validation_workloads.RULES,
}
UPDATE_RULES: dict[str, UpdateRule] = {
    **validation_config.UPDATE_RULES,
    **validation_network.UPDATE_RULES,
    **validation_pods.UPDATE_RULES,
    **validation_rbac.UPDATE_RULES,
    **validation_workloads.UPDATE_RULES,
}


def validate(resource: Resource, obj: Object) -> list[Cause]:
    """Every wrong field of an object."""
    rule = RULES.get(resource.kind)
    return [*_metadata(resource, obj["metadata"]), *(rule(obj) if rule else [])]


NOT_JUDGED = ("managedFields", "resourceVersion", "generation")


def validate_changed(resource: Resource, old: Object, new: Object) -> list[Cause]:
    """Every wrong field of an object's new state; the old one was judged when it was stored."""
    return [] if _judged(old) == _judged(new) else validate(resource, new)


def _judged(obj: Object) -> tuple[Object, Object]:
    """What the rules look at: metadata, and what is wanted."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in NOT_JUDGED}
    return metadata, {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def validate_update(resource: Resource, old: Object, new: Object, subresource: str | None) -> list[Cause]:
    """Every field that this update must not change."""
    rule = UPDATE_RULES.get(resource.kind)
    return rule(old, new) if rule and subresource is None else []


def _metadata(resource: Resource, meta: Object) -> list[Cause]:
    wrong = []
    check = names.name_check(resource.kind)
    if generated := meta.get("generateName"):
        wrong += named(check, "metadata.generateName", generated.rstrip("-.") or generated)
    if meta.get("name"):
        wrong += named(check, "metadata.name", meta["name"])
    else:
        wrong.append(required("metadata.name", "name or generateName is required"))
    if resource.namespaced:
        wrong += must_name(names.dns_label, "metadata.namespace", meta.get("namespace"))
    elif meta.get("namespace"):
        wrong.append(Cause("FieldValueForbidden", "Forbidden: not allowed on this type", "metadata.namespace"))
    wrong += label_map("metadata.labels", mapping(meta, "labels"))
    wrong += annotation_map("metadata.annotations", mapping(meta, "annotations"))
    wrong += _owners(items(meta, "ownerReferences"))
    for index, finalizer in enumerate(items(meta, "finalizers")):
        path = f"metadata.finalizers[{index}]"
        wrong += named(names.qualified_name, path, finalizer)
        if "/" not in finalizer and finalizer not in FINALIZERS:
            wrong.append(
                invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")
            )
    return wrong


def _owners(owners: list[Object]) -> list[Cause]:
    wrong, path = [], "metadata.ownerReferences"
    for owner in owners:
        if not owner.get("apiVersion"):
            wrong.append(invalid(f"{path}.apiVersion", owner.get("apiVersion", ""), "version must not be empty"))
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            wrong.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        missing = [key for key in ("kind", "name", "uid") if not owner.get(key)]
        wrong += [invalid(f"{path}.{key}", "", "must not be empty") for key in missing]
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        first, second = (f"{owner.get('kind')}/{owner.get('name')}" for owner in controllers[:2])
        why = f'Only one reference can have Controller set to true. Found "true" in references for {first} and {second}'
        wrong.append(invalid(path, owners, why))
    return wrong
