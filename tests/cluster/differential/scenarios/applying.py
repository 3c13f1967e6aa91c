"""Server-side apply: who owns what, what is dropped, who is refused; and taking over what others made without it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import (
    DROP,
    changed,
    config_map,
    deployment,
    ingress,
    job,
    network_policy,
    owner,
    provider_deployment,
    secret,
    service,
)
from tests.cluster.differential.steps import (
    JSON_PATCH,
    Json,
    Scenario,
    Step,
    apply,
    create,
    delete,
    patch,
    read,
    replace,
)

CONTAINERS = "spec.template.spec.containers"


def _config_map() -> Iterator[Step]:
    base = config_map("cm", {"a": "1", "b": "2"}, labels={"l": "1"})
    yield apply(201, "made", "configmaps", base)
    yield apply(200, "the same: same version", "configmaps", base)
    yield apply(200, "one value changed", "configmaps", changed(base, "data.a", "9"))
    yield apply(200, "one key and all labels dropped", "configmaps", config_map("cm", {"a": "9"}))
    yield apply(200, "a second manager adds", "configmaps", config_map("cm", {"c": "3"}), manager="beta")
    yield apply(200, "a second manager shares", "configmaps", config_map("cm", {"a": "9", "c": "3"}), manager="beta")
    yield apply(409, "a conflict", "configmaps", config_map("cm", {"a": "8", "c": "4"}), manager="gamma")
    yield apply(200, "forced", "configmaps", config_map("cm", {"a": "8", "c": "4"}), manager="gamma", force=True)
    yield apply(409, "what was taken is conflicted for", "configmaps", config_map("cm", {"a": "7"}))
    yield apply(200, "all dropped by the last", "configmaps", changed(config_map("cm"), "data", DROP), manager="gamma")
    yield read(200, "what is left", "configmaps", "cm")
    yield apply(422, "without a manager", "configmaps", base, manager="")
    yield apply(422, "manager too long", "configmaps", base, manager="m" * 129)
    yield apply(200, "force that is no bool", "configmaps", base, query={"force": "perhaps"})
    yield apply(400, "another name than the path's", "configmaps", base, name="other")
    yield apply(200, "no name in the body", "configmaps", changed(base, "metadata.name", DROP), name="cm", force=True)
    yield apply(400, "with managedFields", "configmaps", changed(base, "metadata.managedFields", [{"manager": "x"}]))
    yield apply(400, "no version in the body", "configmaps", changed(base, "apiVersion", DROP), name="cm")
    yield apply(400, "another kind", "configmaps", {**base, "kind": "Secret"}, name="cm")
    yield apply(400, "no YAML", "configmaps", "a: [", name="cm")
    in_yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata: {a: '1'}\n"
    yield apply(201, "in YAML", "configmaps", in_yaml, name="yaml")


def _versions() -> Iterator[Step]:
    """What fences a stale owner."""
    base = config_map("cm")
    with_version = "metadata.resourceVersion"
    yield apply(201, "made", "configmaps", base, keep={"old": with_version})
    yield apply(200, "changed", "configmaps", config_map("cm", {"a": "2"}), keep={"new": with_version})
    stale = changed(config_map("cm", {"a": "3"}), with_version, "${old}")
    yield apply(409, "stale version", "configmaps", stale)
    yield apply(409, "stale version, forced", "configmaps", stale, force=True)
    yield apply(409, "stale version of what would change nothing", "configmaps", changed(base, with_version, "${old}"))
    fresh = changed(config_map("cm", {"a": "3"}), with_version, "${new}")
    yield apply(200, "right version", "configmaps", fresh, keep={"newest": with_version})
    yield apply(409, "version 1 of what is there", "configmaps", changed(base, with_version, "1"))
    yield apply(409, "version 1, forced", "configmaps", changed(base, with_version, "1"), force=True)
    yield apply(201, "version 1 of what is absent", "configmaps", changed(config_map("first"), with_version, "1"))
    yield apply(201, "stale version of what is absent", "configmaps", changed(config_map("x"), with_version, "${old}"))
    yield apply(500, "version that is no number", "configmaps", changed(base, with_version, "abc"))
    yield apply(200, "version 0", "configmaps", changed(config_map("cm", {"a": "3"}), with_version, "0"))
    uid = "b8d4c9ae-0000-4000-8000-000000000000"
    yield apply(422, "another uid", "configmaps", changed(base, "metadata.uid", uid))
    yield apply(409, "a uid of what is absent", "configmaps", changed(config_map("y"), "metadata.uid", uid))
    yield read(200, "unchanged by all that", "configmaps", "cm")
    dry = {"dryRun": "All"}
    yield apply(201, "dry run of what is absent", "configmaps", config_map("dry"), query=dry)
    yield read(404, "nothing came of it", "configmaps", "dry")
    yield apply(200, "dry run of a change", "configmaps", config_map("cm", {"a": "dry"}), query=dry)
    yield read(200, "unchanged by the dry run", "configmaps", "cm")
    yield apply(422, "dry run of another kind", "configmaps", base, query={"dryRun": "Some"})
    yield apply(409, "dry run, stale", "configmaps", changed(base, with_version, "${old}"), query=dry)
    dead = [owner("anchor", uid)]
    yield apply(201, "with an owner", "configmaps", config_map("owned-dry", ownerReferences=dead), query=dry)


def _strict() -> Iterator[Step]:
    base = provider_deployment("web")
    for mode in ("Strict", "Warn", "Ignore"):
        query = {"fieldValidation": mode, "dryRun": "All"}
        yield apply(500, f"unknown field, {mode}", "deployments", changed(base, "spec.replica", 1), query=query)
        path = f"{CONTAINERS}.0.imagePullPollicy"
        yield apply(500, f"unknown field deep down, {mode}", "deployments", changed(base, path, "x"), query=query)
        doubled = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\ndata: {a: '1', a: '2'}\n"
        code = 400 if mode == "Strict" else 201
        yield apply(code, f"doubled key, {mode}", "configmaps", doubled, name="d", query=query)
    strict = {"fieldValidation": "Strict", "dryRun": "All"}
    yield apply(201, "all well", "deployments", base, query=strict)
    yield apply(500, "mistyped", "deployments", changed(base, "spec.replicas", "1"), query=strict)
    yield apply(500, "a number for text", "deployments", changed(base, f"{CONTAINERS}.0.image", 1), query=strict)
    yield apply(500, "a list for a map", "deployments", changed(base, "metadata.labels", ["a"]), query=strict)
    yield apply(422, "label too long", "deployments", changed(base, "metadata.labels.a", "x" * 64), query=strict)
    doubled_env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    yield apply(500, "env twice", "deployments", changed(base, f"{CONTAINERS}.0.env", doubled_env), query=strict)
    yield apply(
        422, "env without a name", "deployments", changed(base, f"{CONTAINERS}.0.env", [{"value": "1"}]), query=strict
    )
    limit = changed(base, f"{CONTAINERS}.0.resources.limits.memory", "1Gig")
    yield apply(500, "bad quantity", "deployments", limit, query=strict)
    yield apply(
        500, "cpu is a bool", "deployments", changed(base, f"{CONTAINERS}.0.resources.limits.cpu", True), query=strict
    )
    for title, thing, resource in (
        ("service", service("web"), "services"),
        ("ingress", ingress("web"), "ingresses"),
        ("network policy", network_policy("web"), "networkpolicies"),
        ("job", job("web"), "jobs"),
        ("secret", secret("web"), "secrets"),
    ):
        yield apply(201, f"{title}, all well", resource, thing, query=strict)
        yield apply(500, f"{title}, unknown field", resource, {**thing, "bogus": 1}, query=strict)


def _deployment() -> Iterator[Step]:
    """Lists that are maps by key, defaults that nobody owns, generations."""
    base = provider_deployment("web")
    yield apply(201, "made", "deployments", base)
    yield apply(200, "the same", "deployments", base)
    yield apply(200, "another image", "deployments", changed(base, f"{CONTAINERS}.0.image", "other:2"))
    env = [{"name": "PLAIN", "value": "1"}]
    yield apply(200, "one env entry dropped", "deployments", changed(base, f"{CONTAINERS}.0.env", env))
    reordered = [{"name": "NEW", "value": "0"}, {"name": "PLAIN", "value": "1"}]
    yield apply(200, "one env entry put first", "deployments", changed(base, f"{CONTAINERS}.0.env", reordered))
    other = deployment(
        "web", template={"spec": {"containers": [{"name": "app", "env": [{"name": "X", "value": "1"}]}]}}
    )
    del other["spec"]["replicas"], other["spec"]["selector"]
    yield apply(200, "another manager adds env", "deployments", other, manager="beta")
    yield apply(200, "the first drops all env", "deployments", changed(base, f"{CONTAINERS}.0.env", DROP))
    ports = [{"name": "http", "containerPort": 3001}]
    yield apply(200, "a port's key changes", "deployments", changed(base, f"{CONTAINERS}.0.ports", ports))
    yield apply(200, "probes dropped", "deployments", changed(base, f"{CONTAINERS}.0.livenessProbe", DROP))
    yield apply(200, "strategy dropped", "deployments", changed(base, "spec.strategy", DROP))
    selector = changed(changed(base, "spec.selector.matchLabels.b", "c"), "spec.template.metadata.labels.b", "c")
    yield apply(422, "another selector", "deployments", selector)
    yield apply(
        422,
        "a template that the selector misses",
        "deployments",
        changed(base, "spec.template.metadata.labels.app", "b"),
    )
    wider = changed(base, "spec.template.metadata.annotations.checksum", "def")
    yield apply(200, "another checksum: next generation", "deployments", wider)
    yield apply(200, "a label: same generation", "deployments", changed(wider, "metadata.labels.a", "b"))
    yield read(200, "at last", "deployments", "web")


def _kinds() -> Iterator[Step]:
    """What the provider applies besides."""
    cases: Json = (
        ("services", service("web"), "spec.ports", [{"name": "http", "port": 80, "targetPort": 4000}]),
        ("ingresses", ingress("web"), "spec.rules.0.host", "b.preview.test"),
        ("networkpolicies", network_policy("web"), "spec.egress", []),
        ("secrets", {**secret("web"), "immutable": True}, "metadata.labels.a", "b"),
        ("jobs", job("web"), "spec.activeDeadlineSeconds", 60),
    )
    for resource, thing, path, value in cases:
        kind = thing["kind"]
        yield apply(201, f"{kind} made", resource, thing)
        yield apply(200, f"{kind} the same", resource, thing)
        yield apply(200, f"{kind} changed", resource, changed(thing, path, value))
    yield apply(422, "Secret with other data", "secrets", {**secret("web", {"k": "w"}), "immutable": True})
    two = [{"name": "http", "port": 80}, {"name": "alt", "port": 81}]
    yield apply(200, "Service with two ports", "services", service("web", ports=two))
    yield apply(200, "Service with the other one", "services", service("web", ports=two[1:]))
    template = job(
        "web", template={"metadata": {"labels": {"app": "other"}}, "spec": job("x")["spec"]["template"]["spec"]}
    )
    yield apply(422, "Job with another template", "jobs", template)
    yield delete(200, "Service deleted", "services", "web")


def _owners() -> Iterator[Step]:
    anchor = config_map("anchor")
    yield apply(201, "anchor", "configmaps", anchor, keep={"uid": "metadata.uid"})
    owned = config_map("owned", ownerReferences=[owner("anchor", "${uid}")])
    yield apply(201, "owned", "configmaps", owned)
    yield apply(200, "owned again", "configmaps", owned)
    second = changed(owned, "metadata.ownerReferences", [owner("anchor", "${uid}", blockOwnerDeletion=False)])
    yield apply(200, "the reference changed", "configmaps", second)
    yield apply(200, "the reference dropped", "configmaps", config_map("owned"))


def _take_over() -> Iterator[Step]:
    """The platform's present provider makes objects by plain create and replace."""
    theirs = provider_deployment("web")
    ours = changed(theirs, f"{CONTAINERS}.0.env", [{"name": "PLAIN", "value": "2"}])
    yield create(201, "made plainly", "deployments", theirs, headers={"User-Agent": "legacy/0.1 (linux)"})
    yield replace(
        200,
        "replaced plainly",
        "deployments",
        changed(theirs, "metadata.labels.a", "b"),
        headers={"User-Agent": "Legacy2"},
    )
    yield patch(200, "merge patched", "deployments", "web", {"metadata": {"labels": {"c": "d"}}})
    yield apply(409, "applied over it", "deployments", ours)
    yield apply(200, "applied by force: keeps what we dropped", "deployments", ours, force=True)
    yield read(200, "who owns what", "deployments", "web")
    old = config_map("cm", {"a": "1", "b": "2"})
    yield create(201, "config map made plainly", "configmaps", old, query={"fieldManager": "legacy"})
    fields: Json = {"f:data": {".": {}, "f:a": {}, "f:b": {}}}
    entry = {"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields, "manager": "alpha", "operation": "Apply"}
    entry["time"] = "2026-01-01T00:00:00Z"
    move = [{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]
    yield patch(200, "its fields given to us", "configmaps", "cm", move, kind=JSON_PATCH)
    yield apply(200, "applied: what we dropped goes", "configmaps", config_map("cm", {"a": "1"}))
    yield patch(200, "managedFields emptied", "configmaps", "cm", [{**move[0], "value": [{}]}], kind=JSON_PATCH)
    yield apply(200, "applied with none before", "configmaps", config_map("cm", {"a": "1", "z": "1"}))
    bad = [{**move[0], "value": [{**entry, "fieldsV1": {"data": {}}}]}]
    yield patch(200, "fields of no format", "configmaps", "cm", bad, kind=JSON_PATCH)
    yield patch(
        200,
        "an operation of no kind",
        "configmaps",
        "cm",
        [{**move[0], "value": [{**entry, "operation": "Put"}]}],
        kind=JSON_PATCH,
    )
    by_position = [
        {"op": "test", "path": "/metadata/managedFields/0/manager", "value": "alpha"},
        {"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "omega"},
    ]
    yield patch(200, "renamed by position", "configmaps", "cm", by_position, kind=JSON_PATCH)
    by_version = [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]
    yield patch(422, "a test that fails", "configmaps", "cm", by_version, kind=JSON_PATCH)
    yield replace(200, "a plain replace of the rest", "configmaps", config_map("cm", {"a": "2"}))
    yield replace(
        200, "with managedFields emptied", "configmaps", changed(config_map("cm"), "metadata.managedFields", [{}])
    )


SCENARIOS = (
    Scenario("apply-config-map", tuple(_config_map())),
    Scenario("apply-versions", tuple(_versions())),
    Scenario("apply-strict", tuple(_strict())),
    Scenario("apply-deployment", tuple(_deployment())),
    Scenario("apply-kinds", tuple(_kinds())),
    Scenario("apply-owners", tuple(_owners())),
    Scenario("take-over", tuple(_take_over())),
)
