"""Replacing with versions, patches, deletes with preconditions, and what the garbage collector does afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import changed, config_map, deployment, owner, pod, secret
from tests.cluster.differential.steps import (
    JSON_PATCH,
    Scenario,
    Step,
    at,
    create,
    delete,
    gone,
    listing,
    patch,
    read,
    replace,
)

VERSION = "metadata.resourceVersion"
NO_UID = "b8d4c9ae-0000-4000-8000-000000000000"


def _versions() -> Iterator[Step]:
    base = config_map("cm")
    yield create(201, "made", "configmaps", base, keep={"old": VERSION, "uid": "metadata.uid"})
    yield replace(200, "with its version", "configmaps", changed(config_map("cm", {"a": "2"}), VERSION, "${old}"))
    yield replace(409, "with a stale one", "configmaps", changed(config_map("cm", {"a": "3"}), VERSION, "${old}"))
    yield replace(
        409, "stale, the same content", "configmaps", changed(config_map("cm", {"a": "2"}), VERSION, "${old}")
    )
    yield replace(409, "with version 1", "configmaps", changed(base, VERSION, "1"))
    yield replace(200, "without one", "configmaps", config_map("cm", {"a": "4"}))
    yield replace(200, "the same: same version", "configmaps", config_map("cm", {"a": "4"}))
    yield replace(500, "with one that is no number", "configmaps", changed(base, VERSION, "abc"))
    yield replace(409, "with another uid", "configmaps", changed(base, "metadata.uid", NO_UID))
    yield replace(404, "absent", "configmaps", config_map("absent"))
    yield replace(404, "absent, with a version", "configmaps", changed(config_map("absent"), VERSION, "${old}"))
    yield replace(200, "dry run", "configmaps", config_map("cm", {"a": "dry"}), query={"dryRun": "All"})
    yield read(200, "unchanged by it", "configmaps", "cm")
    yield replace(400, "of another kind", "configmaps", secret("cm"))
    yield replace(400, "in another namespace", "configmaps", config_map("cm", namespace="${other}"))
    yield replace(
        200,
        "fields that nobody may set",
        "configmaps",
        changed(base, "metadata.creationTimestamp", "2001-01-01T00:00:00Z"),
    )
    yield replace(200, "a finalizer", "configmaps", config_map("cm", finalizers=["x1agent.io/hold"]))
    yield delete(200, "deleted, held", "configmaps", "cm")
    yield read(200, "still there", "configmaps", "cm")
    yield delete(200, "deleted again", "configmaps", "cm")
    yield patch(
        422, "no new finalizer now", "configmaps", "cm", {"metadata": {"finalizers": ["x1agent.io/hold", "a.b/c"]}}
    )
    yield patch(200, "the finalizer dropped", "configmaps", "cm", {"metadata": {"finalizers": None}})
    yield read(404, "gone", "configmaps", "cm")


def _patches() -> Iterator[Step]:
    yield create(201, "made", "configmaps", config_map("cm", {"a": "1", "b": "2"}), keep={"old": VERSION})
    yield patch(200, "a key", "configmaps", "cm", {"data": {"a": "9"}})
    yield patch(200, "a key dropped", "configmaps", "cm", {"data": {"b": None}})
    yield patch(200, "nothing: same version", "configmaps", "cm", {"data": {"a": "9"}})
    yield patch(409, "stale", "configmaps", "cm", {"metadata": {"resourceVersion": "${old}"}, "data": {"a": "0"}})
    yield patch(404, "absent", "configmaps", "absent", {"data": {"a": "9"}})
    yield patch(422, "mistyped", "configmaps", "cm", {"data": {"a": 1}})
    yield patch(422, "label too long", "configmaps", "cm", {"metadata": {"labels": {"a": "x" * 64}}})
    yield patch(400, "another name", "configmaps", "cm", {"metadata": {"name": "other"}})
    yield patch(400, "no JSON", "configmaps", "cm", "{")
    yield patch(400, "a list", "configmaps", "cm", [])
    for mode in ("Strict", "Warn", "Ignore"):
        code = 422 if mode == "Strict" else 200
        yield patch(code, f"unknown field, {mode}", "configmaps", "cm", {"bogus": 1}, query={"fieldValidation": mode})
    yield patch(200, "dry run", "configmaps", "cm", {"data": {"a": "dry"}}, query={"dryRun": "All"})
    yield patch(200, "as a manager", "configmaps", "cm", {"data": {"m": "1"}}, query={"fieldManager": "omega"})

    def by_json(code: int, title: str, *operations: object) -> Step:
        return patch(code, title, "configmaps", "cm", list(operations), kind=JSON_PATCH)

    yield by_json(200, "add", {"op": "add", "path": "/data/c", "value": "3"})
    yield by_json(
        200, "test and remove", {"op": "test", "path": "/data/c", "value": "3"}, {"op": "remove", "path": "/data/c"}
    )
    yield by_json(422, "test that fails", {"op": "test", "path": "/data/a", "value": "no"})
    yield by_json(422, "remove what is absent", {"op": "remove", "path": "/data/zz"})
    yield by_json(200, "replace what is absent", {"op": "replace", "path": "/data/zz", "value": "1"})
    yield by_json(422, "add below what is absent", {"op": "add", "path": "/zz/a", "value": "1"})
    yield by_json(200, "escaped", {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "1"}})
    yield by_json(200, "escaped again", {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"})
    yield by_json(200, "copy", {"op": "copy", "from": "/data/a", "path": "/data/copied"})
    yield by_json(200, "move", {"op": "move", "from": "/data/copied", "path": "/data/moved"})
    yield by_json(422, "unknown operation", {"op": "merge", "path": "/data/a", "value": "1"})
    yield patch(400, "JSON patch that is no list", "configmaps", "cm", {"op": "add"}, kind=JSON_PATCH)
    yield by_json(
        409,
        "stale version",
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "${old}"},
        {"op": "add", "path": "/data/q", "value": "1"},
    )
    kinds = {"text": "text/plain", "JSON": "application/json", "none": "application/x-nothing"}
    for title, kind in kinds.items():
        yield patch(415, f"as {title}", "configmaps", "cm", {"data": {"a": "1"}}, kind=kind)


def _deletes() -> Iterator[Step]:
    for name in ("a", "b", "c", "d"):
        yield create(
            201, f"{name} made", "configmaps", config_map(name), keep={f"u{name}": "metadata.uid", f"v{name}": VERSION}
        )
    yield delete(409, "another uid", "configmaps", "a", uid=NO_UID)
    yield delete(409, "another version", "configmaps", "a", version="1")
    yield delete(404, "absent, with a uid", "configmaps", "absent", uid=NO_UID)
    yield delete(200, "dry run", "configmaps", "a", query={"dryRun": "All"})
    yield delete(200, "its uid and version", "configmaps", "a", uid="${ua}", version="${va}")
    yield delete(404, "twice", "configmaps", "a", uid="${ua}")
    yield delete(422, "unknown propagation", "configmaps", "b", propagation="Sideways")
    yield delete(200, "propagation in the query", "configmaps", "b", query={"propagationPolicy": "Background"})
    yield delete(200, "a grace period of none", "configmaps", "c", query={"gracePeriodSeconds": "0"})
    yield delete(400, "a grace period that is no number", "configmaps", "d", query={"gracePeriodSeconds": "soon"})
    yield create(201, "labelled", "configmaps", config_map("e", labels={"a": "b"}))
    yield delete(200, "a collection by label", "configmaps", query={"labelSelector": "a=b"})
    yield listing(200, "what is left", "configmaps")
    yield create(201, "pod made", "pods", pod("p"))
    yield delete(200, "pod with grace, on no node", "pods", "p", query={"gracePeriodSeconds": "30"})
    yield read(404, "pod gone", "pods", "p")
    yield create(201, "secret made", "secrets", secret("s"))
    yield delete(200, "secret deleted", "secrets", "s")


def _collected() -> Iterator[Step]:
    """Owners that go, that are gone, and that are in another namespace."""
    anchor, mine = config_map("anchor"), [owner("anchor", "${uid}")]
    yield create(201, "anchor", "configmaps", anchor, keep={"uid": "metadata.uid"})
    yield create(201, "its config map", "configmaps", config_map("child", ownerReferences=mine))
    yield create(201, "its secret", "secrets", secret("child", ownerReferences=mine))
    yield create(201, "its deployment", "deployments", changed(deployment("child"), "metadata.ownerReferences", mine))
    yield delete(200, "anchor deleted in the background", "configmaps", "anchor", propagation="Background")
    yield gone("config map collected", "configmaps", "child")
    yield gone("secret collected", "secrets", "child")
    yield gone("deployment collected", "deployments", "child")
    yield create(201, "made under the dead anchor", "configmaps", config_map("late", ownerReferences=mine))
    yield gone("collected too", "configmaps", "late")
    yield create(201, "anchor again", "configmaps", anchor, keep={"uid": "metadata.uid"})
    yield create(
        201,
        "under the anchor's name with a wrong uid",
        "configmaps",
        config_map("wrong", ownerReferences=[owner("anchor", NO_UID)]),
    )
    yield gone("collected as well", "configmaps", "wrong")
    yield create(
        201, "in another namespace", "configmaps", config_map("abroad", ownerReferences=mine), space="${other}"
    )
    yield gone("collected abroad", "configmaps", "abroad", space="${other}")
    yield create(
        201, "with two owners", "configmaps", config_map("two", ownerReferences=[*mine, owner("gone", NO_UID)])
    )
    yield read(
        200,
        "kept by the living one",
        "configmaps",
        "two",
        until=lambda a: len(a.body["metadata"].get("ownerReferences", [])) == 1,
    )
    yield create(201, "to be orphaned", "configmaps", config_map("orphan", ownerReferences=mine))
    yield delete(200, "anchor deleted, orphaning", "configmaps", "anchor", propagation="Orphan")
    yield gone("anchor gone", "configmaps", "anchor")
    yield read(200, "orphaned", "configmaps", "orphan")
    yield create(201, "deployment as owner", "deployments", deployment("big"), keep={"uid": "metadata.uid"})
    under = [owner("big", "${uid}", "Deployment", "apps/v1", controller=True, blockOwnerDeletion=True)]
    yield create(201, "under a deployment", "configmaps", config_map("under", ownerReferences=under))
    yield create(
        201,
        "under a wrong kind",
        "configmaps",
        config_map("odd", ownerReferences=[owner("big", "${uid}", "ReplicaSet", "apps/v1")]),
    )
    yield gone("the wrong kind is collected", "configmaps", "odd")
    yield delete(200, "deployment deleted", "deployments", "big", propagation="Foreground")
    yield gone("deployment gone", "deployments", "big")
    yield gone("what was under it too", "configmaps", "under")
    yield create(201, "third anchor", "configmaps", anchor, keep={"uid": "metadata.uid"})
    blocking = [owner("anchor", "${uid}", blockOwnerDeletion=True)]
    held = config_map("held", ownerReferences=blocking, finalizers=["x1agent.io/hold"])
    yield create(201, "blocking child", "configmaps", held)
    yield delete(200, "anchor deleted in the foreground", "configmaps", "anchor", propagation="Foreground")
    yield read(200, "anchor waits", "configmaps", "anchor")
    yield read(
        200, "child is being deleted", "configmaps", "held", until=lambda a: "deletionTimestamp" in a.body["metadata"]
    )
    yield patch(200, "child let go", "configmaps", "held", {"metadata": {"finalizers": None}})
    yield gone("anchor gone after it", "configmaps", "anchor")


def _namespace() -> Iterator[Step]:
    """A namespace takes everything in it along."""
    yield create(201, "in the other namespace", "configmaps", config_map("cm"), space="${other}")
    yield delete(200, "namespace deleted", "namespaces", "${other}")
    yield create(
        403, "nothing new in it", "configmaps", config_map("late"), space="${other}", until=lambda a: a.code != 201
    )
    yield gone("it goes", "namespaces", "${other}")
    yield Step(title="its contents are gone", code=200, method="GET", path=at("configmaps", space="${other}"))


SCENARIOS = (
    Scenario("versions", tuple(_versions())),
    Scenario("patches", tuple(_patches())),
    Scenario("deletes", tuple(_deletes())),
    Scenario("collected", tuple(_collected())),
    Scenario("namespace", tuple(_namespace())),
)
