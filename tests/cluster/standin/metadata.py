"""An object's metadata on its way through a write: preconditions, and what no request can change."""

from __future__ import annotations

from tests.cluster.standin.resources import Resource
from tests.cluster.standin.status import Cause, conflict, internal, invalid
from tests.cluster.standin.values import Object, items

SERVER_SIDE = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def check_preconditions(resource: Resource, old: Object, new: Object) -> None:
    """409 unless the request's resourceVersion and uid, where it has them, are those of the stored object."""
    name, wanted = old["metadata"]["name"], new["metadata"]
    if wanted.get("uid") and wanted["uid"] != old["metadata"]["uid"]:
        raise uid_conflict(resource, old, wanted["uid"])
    version = wanted.get("resourceVersion")
    if version and not version.isdigit():
        raise internal(f'strconv.ParseUint: parsing "{version}": invalid syntax')
    if version not in (None, "", "0", old["metadata"]["resourceVersion"]):
        raise conflict(resource.group, resource.plural, name)


def check_applied_uid(resource: Resource, old: Object, config: Object) -> None:
    """422 for an applied uid that is another object's: an apply takes it for a change, not for a precondition."""
    wanted = config["metadata"].get("uid")
    if wanted and wanted != old["metadata"]["uid"]:
        cause = Cause("FieldValueInvalid", f'Invalid value: "{wanted}": field is immutable', "metadata.uid")
        raise invalid(resource.group, resource.kind, old["metadata"]["name"], [cause])


def new_finalizers(old: Object, new: Object) -> list[Cause]:
    """What is being deleted can't be held by anybody who did not hold it before."""
    before = items(old, "metadata", "finalizers")
    added = [name for name in items(new, "metadata", "finalizers") if name not in before]
    if not added or "deletionTimestamp" not in old["metadata"]:
        return []
    told = ", ".join(f'"{name}"' for name in added)
    why = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers"
    return [Cause("FieldValueForbidden", f"{why} []string{{{told}}}", "metadata.finalizers")]


RV = "metadata.resourceVersion"


def uid_conflict(resource: Resource, old: Object, wanted: str) -> Exception:
    meta = old["metadata"]
    key = "/".join(filter(None, ("/registry", resource.plural, meta.get("namespace"), meta["name"])))
    told = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {meta['uid']}"
    why = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {told}"
    return conflict(resource.group, resource.plural, meta["name"], why)


def keep(old: Object, new: Object) -> None:
    """Carries over what only the server sets."""
    for name in SERVER_SIDE:
        if name in old["metadata"]:
            new["metadata"][name] = old["metadata"][name]
        else:
            new["metadata"].pop(name, None)


def about(resource: Resource, obj: Object) -> str:
    """`namespace/name; group/version, Kind=Kind`, as messages about applied objects have it."""
    meta = obj.get("metadata") or {}
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}; {resource.api_version}, Kind={resource.kind}"


def cannot_handle(resource: Resource, why: str) -> str:
    return f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'
