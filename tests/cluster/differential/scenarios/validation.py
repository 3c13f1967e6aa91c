"""What a picky server refuses, in metadata, by strictness, and in deployments (pods: see `validation_of_pods`)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import (
    DROP,
    changed,
    config_map,
    deployment,
    provider_deployment,
    variants,
)
from tests.cluster.differential.steps import Scenario, Step, create, delete, patch, replace

LONG = "x" * 64


def _metadata() -> Iterator[Step]:
    cases = {
        "name with capitals": (422, "metadata.name", "Bad"),
        "name with an underscore": (422, "metadata.name", "a_b"),
        "name with dots": (201, "metadata.name", "a.b"),
        "name too long": (422, "metadata.name", "a" * 254),
        "name with a slash": (422, "metadata.name", "a/b"),
        "no name": (422, "metadata.name", DROP),
        "name generated": (201, "metadata", {"generateName": "made-"}),
        "name is a number": (400, "metadata.name", 5),
        "label value too long": (422, "metadata.labels.a", LONG),
        "label value with a space": (422, "metadata.labels.a", "a b"),
        "label value is a number": (400, "metadata.labels.a", 1),
        "label value empty": (201, "metadata.labels.a", ""),
        "label value ends with a dash": (422, "metadata.labels.a", "a-"),
        "label key with two slashes": (422, "metadata.labels.a/b/c", "1"),
        "label key too long": (422, f"metadata.labels.{LONG}", "1"),
        "label prefix with capitals": (422, "metadata.labels.A~b/c", "1"),
        "annotation key with a space": (422, "metadata.annotations.a b", "1"),
        "annotation key with capitals": (201, "metadata.annotations.Ab~C/d", "1"),
        "annotations too large": (422, "metadata.annotations.a", "x" * (256 * 1024 + 1)),
        "annotation is a bool": (400, "metadata.annotations.a", True),
        "null label": (201, "metadata.labels.a", None),
        "another namespace than the path's": (400, "metadata.namespace", "other"),
        "finalizer without a domain": (422, "metadata.finalizers", ["mine"]),
        "finalizer with a domain": (201, "metadata.finalizers", ["x1agent.io/mine"]),
        "owner without a uid": (422, "metadata.ownerReferences", [{"apiVersion": "v1", "kind": "Pod", "name": "a"}]),
        "two controllers": (
            422,
            "metadata.ownerReferences",
            [{"apiVersion": "v1", "kind": "Pod", "name": n, "uid": n, "controller": True} for n in ("a", "b")],
        ),
        "owner is an event": (
            422,
            "metadata.ownerReferences",
            [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "a"}],
        ),
        "a uid of our own": (201, "metadata.uid", "b8d4c9ae-0000-4000-8000-000000000000"),
        "a version on create": (201, "metadata.resourceVersion", "5"),
        "another kind": (400, "kind", "Secret"),
        "another version": (400, "apiVersion", "v2"),
        "no kind": (201, "kind", DROP),
        "no version": (201, "apiVersion", DROP),
    }
    yield from variants("configmaps", config_map("meta"), cases)


def _strict() -> Iterator[Step]:
    """Unknown, doubled and mistyped fields under each way of validating."""
    base = deployment("strict")
    wrong = changed(changed(base, "spec.replica", 1), "spec.template.spec.containers.0.imagePullPollicy", "Always")
    for mode in ("Strict", "Warn", "Ignore", "Loud"):
        code = {"Strict": 400, "Loud": 422}.get(mode, 201)
        query = {"dryRun": "All", "fieldValidation": mode}
        yield create(code, f"unknown fields, {mode}", "deployments", wrong, query=query)
    yield create(201, "unknown fields, by default", "deployments", wrong, query={"dryRun": "All"})
    doubled = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"},"data":{"a":"1","a":"2"},"data":{"b":"1"}}'
    for mode in ("Strict", "Warn", "Ignore"):
        query = {"dryRun": "All", "fieldValidation": mode}
        yield create(400 if mode == "Strict" else 201, f"doubled keys, {mode}", "configmaps", doubled, query=query)
    in_yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: in-yaml\ndata:\n  a: '1'\nbogus: 1\n"
    as_yaml = {"Content-Type": "application/yaml"}
    for mode in ("Strict", "Warn"):
        query = {"dryRun": "All", "fieldValidation": mode}
        code = 400 if mode == "Strict" else 201
        yield create(code, f"unknown field in YAML, {mode}", "configmaps", in_yaml, query=query, headers=as_yaml)
    cases = {
        "replicas is text": (400, "spec.replicas", "1"),
        "replicas is a fraction": (400, "spec.replicas", 1.5),
        "replicas is whole, written as a fraction": (400, "spec.replicas", 1.0),
        "replicas is null": (201, "spec.replicas", None),
        "containers is an object": (400, "spec.template.spec.containers", {"name": "a"}),
        "spec is a list": (400, "spec", []),
        "image is a number": (400, "spec.template.spec.containers.0.image", 1),
        "paused is text": (400, "spec.paused", "true"),
        "wrong case of a field": (201, "spec.Replicas", 3),
        "status is ignored": (201, "status", {"replicas": 5}),
        "metadata is null": (422, "metadata", None),
        "cpu is a number": (201, "spec.template.spec.containers.0.resources", {"limits": {"cpu": 1}}),
        "cpu is a bool": (400, "spec.template.spec.containers.0.resources", {"limits": {"cpu": True}}),
        "env value is a number": (400, "spec.template.spec.containers.0.env", [{"name": "A", "value": 1}]),
        "int64 too large": (400, "spec.template.spec.terminationGracePeriodSeconds", 10**20),
    }
    yield from variants("deployments", base, cases)
    yield create(400, "no JSON", "configmaps", "{")
    yield create(400, "an empty body", "configmaps", "")
    yield create(400, "a list", "configmaps", [])
    yield create(400, "just text", "configmaps", '"text"')


def _deployments() -> Iterator[Step]:
    cases = {
        "no selector": (422, "spec.selector", DROP),
        "an empty selector": (422, "spec.selector", {}),
        "a selector that misses the template": (422, "spec.selector.matchLabels.app", "other"),
        "a selector with a bad value": (422, "spec.selector.matchLabels.app", LONG),
        "a selector with an operator that is none": (
            422,
            "spec.selector.matchExpressions",
            [{"key": "app", "operator": "Like", "values": ["a"]}],
        ),
        "a selector In nothing": (422, "spec.selector.matchExpressions", [{"key": "app", "operator": "In"}]),
        "no template": (422, "spec.template", DROP),
        "a template label too long": (422, "spec.template.metadata.labels.x", LONG),
        "negative replicas": (422, "spec.replicas", -1),
        "an unknown strategy": (422, "spec.strategy", {"type": "BlueGreen"}),
        "recreate with rolling numbers": (422, "spec.strategy", {"type": "Recreate", "rollingUpdate": {}}),
        "recreate": (201, "spec.strategy", {"type": "Recreate"}),
        "no surge and none unavailable": (422, "spec.strategy.rollingUpdate", {"maxSurge": 0, "maxUnavailable": 0}),
        "surge by percent": (201, "spec.strategy.rollingUpdate", {"maxSurge": "50%"}),
        "surge by text": (422, "spec.strategy.rollingUpdate", {"maxSurge": "half"}),
        "unavailable over 100 percent": (422, "spec.strategy.rollingUpdate", {"maxUnavailable": "101%"}),
        "negative history": (422, "spec.revisionHistoryLimit", -1),
        "deadline below ready seconds": (422, "spec.minReadySeconds", 600),
        "deadline 0": (422, "spec.progressDeadlineSeconds", 0),
        "restart policy never": (422, "spec.template.spec.restartPolicy", "Never"),
        "active deadline": (422, "spec.template.spec.activeDeadlineSeconds", 5),
        "container without an image": (422, "spec.template.spec.containers.0.image", ""),
        "request over limit": (
            422,
            "spec.template.spec.containers.0.resources.limits.memory",
            "1Mi",
        ),
        "a service account that is not there": (201, "spec.template.spec.serviceAccountName", "absent"),
    }
    yield from variants("deployments", provider_deployment("web"), cases)


def _immutable() -> Iterator[Step]:
    """What can't be changed any more, and generations of what can."""
    base = provider_deployment("web")
    relabelled = changed(changed(base, "spec.selector.matchLabels.app", "b"), "spec.template.metadata.labels.app", "b")
    yield create(201, "made", "deployments", base)
    yield replace(422, "another selector", "deployments", relabelled)
    yield replace(422, "a selector that misses", "deployments", changed(base, "spec.selector.matchLabels.b", "c"))
    yield replace(200, "a label only: same generation", "deployments", changed(base, "metadata.labels.a", "b"))
    yield replace(200, "another spec: next generation", "deployments", changed(base, "spec.minReadySeconds", 1))
    yield replace(400, "another name than the path's", "deployments", base, name="other")
    yield replace(404, "one that is not there", "deployments", changed(base, "metadata.name", "absent"))
    yield replace(
        409, "another uid", "deployments", changed(base, "metadata.uid", "b8d4c9ae-0000-4000-8000-000000000000")
    )
    env = "spec.template.spec.containers.0.env"
    yield replace(200, "less env", "deployments", changed(base, env, [{"name": "PLAIN", "value": "2"}]))
    status = changed(base, "status", {"observedGeneration": 7, "replicas": 3})
    yield replace(200, "status only, with a spec", "deployments", changed(status, "spec.replicas", 9), sub="status")
    yield patch(200, "patched", "deployments", "web", {"spec": {"minReadySeconds": 2}})
    yield delete(200, "deleted", "deployments", "web")


SCENARIOS = (
    Scenario("metadata", tuple(_metadata())),
    Scenario("strict", tuple(_strict())),
    Scenario("deployments", tuple(_deployments())),
    Scenario("immutable", tuple(_immutable())),
)
