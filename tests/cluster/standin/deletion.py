"""What a deletion does at once, and what it only marks: grace, finalizers, propagation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.cluster.standin.decode import timestamp
from tests.cluster.standin.resources import Resource
from tests.cluster.standin.status import conflict
from tests.cluster.standin.values import Object, at, clone

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
FINALIZERS = {"Foreground": FOREGROUND, "Orphan": ORPHAN}


@dataclass(frozen=True)
class Deletion:
    """DeleteOptions. `propagation` None is the kind's default; `grace` is in seconds."""

    propagation: str | None = None
    uid: str | None = None
    version: str | None = None
    grace: int | None = None
    dry_run: bool = False


def marked(resource: Resource, old: Object, wanted: Deletion, now: datetime) -> Object | None:
    """The object as the deletion leaves it, or None if it goes at once; ApiError 409 for a failed precondition."""
    _check(resource, old, wanted)
    new = clone(old)
    meta = new["metadata"]
    finalizers = _finalizers(resource, meta.get("finalizers") or [], wanted)
    grace = _grace(resource, old, wanted)
    if resource.kind == "Namespace":
        new["status"] = {**new.get("status", {}), "phase": "Terminating"}
    if not finalizers and not grace and not new.get("spec", {}).get("finalizers"):
        return None
    if finalizers:
        meta["finalizers"] = finalizers
    first = "deletionTimestamp" not in meta
    if first or grace < meta.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
        if resource.kind == "Namespace":
            del meta["deletionGracePeriodSeconds"]
    if first and "generation" in meta:
        meta["generation"] += 1
    return new


def stamped(pod: Object, now: datetime) -> Object:
    """A pod as a deletion without grace leaves it for the moment before it goes."""
    new = clone(pod)
    meta = new["metadata"]
    if "deletionTimestamp" not in meta:
        meta["generation"] = meta.get("generation", 0) + 1
    meta |= {"deletionTimestamp": timestamp(now), "deletionGracePeriodSeconds": 0}
    return new


def finished(obj: Object) -> bool:
    """Whether nothing holds a deleted object any more: no finalizers, no grace left."""
    meta = obj["metadata"]
    waiting = meta.get("finalizers") or at(obj, "spec", "finalizers") or meta.get("deletionGracePeriodSeconds")
    return "deletionTimestamp" in meta and not waiting


def _check(resource: Resource, old: Object, wanted: Deletion) -> None:
    meta = old["metadata"]
    failed = [
        (what, asked, meta[key], since)
        for what, key, asked, since in (
            ("UID", "uid", wanted.uid, "deleted and then recreated"),
            ("ResourceVersion", "resourceVersion", wanted.version, "modified"),
        )
        if asked and asked != meta[key]
    ]
    for what, asked, found, since in failed:
        why = f"the {what} in the precondition ({asked}) does not match the {what} in record ({found})"
        raise conflict(resource.group, resource.kind, meta["name"], f"{why}. The object might have been {since}")


def _finalizers(resource: Resource, present: list[str], wanted: Deletion) -> list[str]:
    propagation = wanted.propagation or ("Orphan" if resource.orphans else None)
    if propagation is None:
        return present
    kept = [name for name in present if name not in FINALIZERS.values()]
    return [*kept, *([FINALIZERS[propagation]] if propagation in FINALIZERS else [])]


def _grace(resource: Resource, old: Object, wanted: Deletion) -> int:
    """Seconds that a scheduled pod has to end; nothing else is deleted gracefully."""
    if resource.kind != "Pod" or not at(old, "spec", "nodeName"):
        return 0
    if at(old, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    configured = at(old, "spec", "terminationGracePeriodSeconds")
    return wanted.grace if wanted.grace is not None else int(configured if configured is not None else 30)
