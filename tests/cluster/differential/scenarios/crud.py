"""Create, read, replace, delete of every kind that is used: defaults, generations, versions, what is dropped."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import (
    changed,
    config_map,
    deployment,
    ingress,
    job,
    meta,
    network_policy,
    pod,
    provider_deployment,
    secret,
    service,
)
from tests.cluster.differential.steps import Json, Scenario, Step, create, delete, listing, read, replace


def _life(resource: str, thing: Json, path: str, value: Json, *, replaced: int = 200) -> Iterator[Step]:
    """Made, read, made again (refused), replaced by the same and by another, deleted twice."""
    name = thing["metadata"]["name"]
    kind = f"{thing['kind']} {name}"
    yield create(201, f"{kind} made", resource, thing)
    yield read(200, f"{kind} read", resource, name)
    yield create(409, f"{kind} made again", resource, thing)
    yield replace(replaced, f"{kind} replaced by the same", resource, thing)
    yield replace(replaced, f"{kind} replaced by another", resource, changed(thing, path, value))
    yield delete(200, f"{kind} deleted", resource, name, propagation="Background")
    yield read(404, f"{kind} read when gone", resource, name)
    yield delete(404, f"{kind} deleted when gone", resource, name)


def _workloads() -> Iterator[Step]:
    yield from _life("deployments", provider_deployment("full"), "spec.template.spec.containers.0.image", "other:2")
    yield from _life("deployments", deployment("small"), "metadata.labels.new", "1")
    yield from _life("jobs", job("build", ttlSecondsAfterFinished=60), "spec.backoffLimit", 3, replaced=422)
    template = {"metadata": {"labels": {"app": "rs"}}, "spec": deployment("rs")["spec"]["template"]["spec"]}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "rs"}}, "template": template}
    replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta("rs"), "spec": spec}
    yield from _life("replicasets", replica_set, "spec.minReadySeconds", 1)
    yield create(201, "Pod made", "pods", pod("lonely"))
    yield read(200, "Pod read", "pods", "lonely")
    yield create(409, "Pod made again", "pods", pod("lonely"))
    yield replace(422, "Pod gets a label", "pods", changed(pod("lonely"), "metadata.labels.a", "b"))
    yield replace(
        422, "Pod gets a port", "pods", changed(pod("lonely"), "spec.containers.0.ports", [{"containerPort": 1}])
    )
    yield delete(200, "Pod deleted", "pods", "lonely")
    yield create(201, "Pod with a token", "pods", changed(pod("token"), "spec.automountServiceAccountToken", True))


def _network() -> Iterator[Step]:
    yield from _life("services", service("web"), "spec.ports.0.targetPort", "http")
    yield create(
        201, "slice by controller", "endpointslices", _slice("by-label", {"kubernetes.io/service-name": "web"})
    )
    query = {"labelSelector": "kubernetes.io/service-name=web"}
    # That of the Service's own controller is collected when it is.
    yield listing(200, "slices of a service", "endpointslices", query=query, until=lambda a: len(a.body["items"]) == 1)
    yield from _life("services", service("headless", clusterIP="None"), "spec.ports.0.port", 81)
    yield from _life("services", service("node", type="NodePort"), "metadata.labels.a", "b")
    yield from _life("ingresses", ingress("web"), "spec.rules.0.host", "other.preview.test")
    yield from _life("networkpolicies", network_policy("web"), "spec.policyTypes", ["Ingress"])
    slices = _slice("web-1", {"kubernetes.io/service-name": "absent"})
    yield from _life("endpointslices", slices, "endpoints.0.conditions.ready", False)


def _slice(name: str, labels: Json) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta(name, labels=labels),
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.1.2.3"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "p"}}
        ],
        "ports": [{"name": "http", "port": 3000}],
    }


def _rest() -> Iterator[Step]:
    yield from _life("configmaps", config_map("cm"), "data.b", "2")
    yield from _life("secrets", secret("sec"), "stringData.k", "w")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("builder")}
    yield from _life("serviceaccounts", account, "automountServiceAccountToken", False)
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta("reader"), "rules": [rule]}
    yield from _life("roles", role, "rules.0.verbs", ["get", "list"])
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": meta("reader"),
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "builder", "namespace": "${ns}"}],
    }
    yield from _life("rolebindings", binding, "subjects.0.name", "other")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta("leader"),
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"},
    }
    yield from _life("leases", lease, "spec.holderIdentity", "b", replaced=422)


def _secrets() -> Iterator[Step]:
    """Immutable ones are what the provider's bundles are."""
    fixed = {**secret("fixed"), "immutable": True}
    yield create(201, "made immutable", "secrets", fixed)
    yield replace(200, "the same again", "secrets", fixed)
    yield replace(422, "other data", "secrets", changed(fixed, "stringData.k", "w"))
    yield replace(422, "mutable again", "secrets", changed(fixed, "immutable", False))
    yield replace(200, "a label is allowed", "secrets", changed(fixed, "metadata.labels.a", "b"))
    yield create(400, "data that is no base64", "secrets", {**secret("x"), "data": {"k": "***"}})
    yield create(422, "a bad key", "secrets", secret("x", {"a/b": "v"}))
    yield create(
        422, "docker config without its key", "secrets", {**secret("x"), "type": "kubernetes.io/dockerconfigjson"}
    )
    yield create(422, "tls without its keys", "secrets", {**secret("x"), "type": "kubernetes.io/tls"})
    yield create(201, "a type of our own", "secrets", {**secret("typed"), "type": "x1agent.io/bundle"})
    yield replace(422, "another type", "secrets", {**secret("typed"), "type": "Opaque"})
    yield create(422, "too large", "secrets", secret("x", {"k": "v" * (1024 * 1024 + 1)}))
    frozen = {**config_map("fixed"), "immutable": True}
    yield create(201, "config map made immutable", "configmaps", frozen)
    yield replace(422, "config map with other data", "configmaps", changed(frozen, "data.a", "2"))
    yield create(422, "config map with a bad key", "configmaps", config_map("x", {"a b": "1"}))
    both = {**config_map("x"), "binaryData": {"a": "AQ=="}}
    yield create(422, "config map with a key twice", "configmaps", both)
    yield create(422, "config map too large", "configmaps", config_map("x", {"a": "v" * (1024 * 1024 + 1)}))


def _events() -> Iterator[Step]:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": meta("web.1", namespace="${ns}"),
        "involvedObject": {"kind": "ConfigMap", "namespace": "${ns}", "name": "web", "uid": "u-1"},
        "reason": "Tested",
        "message": "as it is",
        "type": "Warning",
        "source": {"component": "differential"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }
    other = changed(changed(event, "metadata.name", "web.2"), "involvedObject.name", "other")
    yield create(201, "made", "events", event)
    yield create(201, "another", "events", other)
    yield listing(200, "by object", "events", query={"fieldSelector": "involvedObject.name=web"})
    yield listing(
        200, "by kind and type", "events", query={"fieldSelector": "involvedObject.kind=ConfigMap,type=Warning"}
    )
    yield listing(200, "by uid", "events", query={"fieldSelector": "involvedObject.uid=u-1"})
    yield listing(200, "by reason of another", "events", query={"fieldSelector": "reason!=Tested"})
    yield listing(400, "by a field that can't be asked for", "events", query={"fieldSelector": "count=1"})
    yield create(422, "about an object elsewhere", "events", changed(event, "involvedObject.namespace", "default"))


SCENARIOS = (
    Scenario("workloads", tuple(_workloads())),
    Scenario("network", tuple(_network())),
    Scenario("rest", tuple(_rest())),
    Scenario("secrets", tuple(_secrets())),
    Scenario("events", tuple(_events())),
)
