"""The same for services, ingresses, network policies, jobs, roles and bindings, quotas, namespaces."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import (
    DROP,
    changed,
    ingress,
    job,
    meta,
    network_policy,
    service,
    variants,
)
from tests.cluster.differential.steps import Json, Scenario, Step, create, delete, patch, read, replace


def _services() -> Iterator[Step]:
    port = {"port": 80}
    cases = {
        "name with a dot": (422, "metadata.name", "a.b"),
        "name starting with a digit": (201, "metadata.name", "1a"),
        "name of 64": (422, "metadata.name", "a" * 64),
        "no ports": (422, "spec.ports", []),
        "two ports without names": (422, "spec.ports", [port, {"port": 81}]),
        "port twice": (422, "spec.ports", [{**port, "name": "a"}, {**port, "name": "b"}]),
        "port name with capitals": (422, "spec.ports.0.name", "Http"),
        "port 0": (422, "spec.ports.0.port", 0),
        "target 0": (201, "spec.ports.0.targetPort", 0),
        "target with a bad name": (422, "spec.ports.0.targetPort", "a_b"),
        "target left out": (201, "spec.ports.0.targetPort", DROP),
        "protocol unknown": (422, "spec.ports.0.protocol", "HTTP"),
        "app protocol": (201, "spec.ports.0.appProtocol", "kubernetes.io/h2c"),
        "app protocol bad": (422, "spec.ports.0.appProtocol", "a b"),
        "type unknown": (422, "spec.type", "Public"),
        "selector too long": (422, "spec.selector.app", "x" * 64),
        "session affinity unknown": (422, "spec.sessionAffinity", "Maybe"),
        "cluster IP that is none": (422, "spec.clusterIP", "1.2.3"),
        "external name without a name": (422, "spec", {"type": "ExternalName"}),
        "external name": (201, "spec", {"type": "ExternalName", "externalName": "a.test"}),
        "node port on a cluster IP": (422, "spec.ports.0.nodePort", 30123),
        "load balancer": (201, "spec.type", "LoadBalancer"),
    }
    yield from variants("services", service("svc"), cases)
    yield create(201, "made", "services", service("web"))
    yield replace(422, "cluster IP taken away", "services", changed(service("web"), "spec.clusterIP", "None"))
    yield patch(
        200, "more ports", "services", "web", {"spec": {"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]}}
    )


def _ingresses() -> Iterator[Step]:
    path = "spec.rules.0.http.paths.0."
    cases = {
        "no rules, no backend": (422, "spec", {"ingressClassName": "nginx"}),
        "host with capitals": (422, "spec.rules.0.host", "A.test"),
        "host is an IP": (422, "spec.rules.0.host", "1.2.3.4"),
        "host with a port": (422, "spec.rules.0.host", "a.test:80"),
        "host with a wildcard": (201, "spec.rules.0.host", "*.a.test"),
        "host with a wildcard inside": (422, "spec.rules.0.host", "a.*.test"),
        "no path type": (422, path + "pathType", DROP),
        "path type unknown": (422, path + "pathType", "Regex"),
        "path without a slash": (422, path + "path", "app"),
        "path with two slashes": (422, path + "path", "/a//b"),
        "path climbing": (422, path + "path", "/a/../b"),
        "path left out": (422, path + "path", DROP),
        "path implementation specific": (201, "spec.rules.0.http.paths.0.pathType", "ImplementationSpecific"),
        "backend without a port": (422, path + "backend", {"service": {"name": "a"}}),
        "backend with two ports": (422, path + "backend.service.port", {"number": 80, "name": "http"}),
        "backend port 0": (422, path + "backend.service.port", {"number": 0}),
        "backend with a bad name": (422, path + "backend.service.name", "A"),
        "backend starting with a digit": (201, path + "backend.service.name", "1a"),
        "no backend": (422, path + "backend", DROP),
        "old backend fields": (422, path + "backend", {"serviceName": "a", "servicePort": 80}),
        "class with a bad name": (422, "spec.ingressClassName", "A b"),
        "class and annotation": (201, "metadata.annotations.kubernetes~io/ingress~class", "nginx"),
        "tls host with capitals": (422, "spec.tls.0.hosts", ["A"]),
        "tls without a secret": (201, "spec.tls", [{"hosts": ["a.test"]}]),
        "default backend": (201, "spec", {"defaultBackend": {"service": {"name": "a", "port": {"name": "http"}}}}),
        "no paths": (422, "spec.rules.0.http.paths", []),
    }
    yield from variants("ingresses", ingress("ing"), cases)


def _network_policies() -> Iterator[Step]:
    block = "spec.egress.1.to.0.ipBlock"
    cases = {
        "policy type unknown": (422, "spec.policyTypes", ["Both"]),
        "types left out": (201, "spec.policyTypes", DROP),
        "no types, no egress": (201, "spec", {"podSelector": {}}),
        "no selector": (201, "spec.podSelector", DROP),
        "cidr that is none": (422, block + ".cidr", "10.0.0.0"),
        "exception outside": (422, block, {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}),
        "exception is the whole": (422, block, {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}),
        "peer of nothing": (422, "spec.egress.1.to.0", {}),
        "peer of block and selector": (
            422,
            "spec.egress.1.to.0",
            {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}},
        ),
        "port 0": (422, "spec.egress.0.ports.0.port", 0),
        "port by name": (201, "spec.egress.0.ports.0.port", "dns"),
        "port by a bad name": (422, "spec.egress.0.ports.0.port", "d_ns"),
        "port protocol unknown": (422, "spec.egress.0.ports.0.protocol", "ICMP"),
        "port range": (201, "spec.egress.0.ports.0", {"port": 1, "endPort": 9}),
        "port range backwards": (422, "spec.egress.0.ports.0", {"port": 9, "endPort": 1}),
        "selector with a bad operator": (
            422,
            "spec.podSelector.matchExpressions",
            [{"key": "a", "operator": "Like"}],
        ),
    }
    yield from variants("networkpolicies", network_policy("pol"), cases)


def _jobs() -> Iterator[Step]:
    cases = {
        "name of 63": (201, "metadata.name", "a" * 63),
        "name of 64": (422, "metadata.name", "a" * 64),
        "no restart policy": (422, "spec.template.spec.restartPolicy", DROP),
        "restart policy always": (422, "spec.template.spec.restartPolicy", "Always"),
        "negative backoff": (422, "spec.backoffLimit", -1),
        "negative deadline": (422, "spec.activeDeadlineSeconds", -1),
        "negative time to live": (422, "spec.ttlSecondsAfterFinished", -1),
        "a selector of our own": (422, "spec.selector", {"matchLabels": {"app": "made"}}),
        "completion mode unknown": (422, "spec.completionMode", "Some"),
        "indexed without completions": (422, "spec.completionMode", "Indexed"),
        "parallel": (201, "spec.parallelism", 3),
        "pod failure policy": (
            201,
            "spec.podFailurePolicy",
            {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]},
        ),
        "no template": (422, "spec.template", DROP),
    }
    yield from variants("jobs", job("job"), cases)
    yield create(201, "made", "jobs", job("made"))
    yield patch(
        422, "another template", "jobs", "made", {"spec": {"template": {"spec": {"enableServiceLinks": False}}}}
    )
    yield patch(422, "other completions", "jobs", "made", {"spec": {"completions": 2}})
    yield patch(200, "other deadline", "jobs", "made", {"spec": {"activeDeadlineSeconds": 60}})
    yield delete(200, "deleted, pods too", "jobs", "made", propagation="Background")
    yield create(201, "made to be orphaned by default", "jobs", job("default"))
    yield delete(200, "deleted without a policy", "jobs", "default")


def _access_objects() -> Iterator[Step]:
    api = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta("r"), "rules": [rule]}
    cases = {
        "rule without verbs": (422, "rules.0.verbs", []),
        "rule without resources": (422, "rules.0.resources", []),
        "rule without groups": (422, "rules.0.apiGroups", DROP),
        "rule with URLs": (422, "rules.0", {"nonResourceURLs": ["/x"], "verbs": ["get"]}),
        "name with a colon": (201, "metadata.name", "system:x"),
        "no rules": (201, "rules", DROP),
    }
    yield from variants("roles", role, cases)
    subject = {"kind": "ServiceAccount", "name": "a", "namespace": "${ns}"}
    reference = {"apiGroup": api, "kind": "Role", "name": "absent"}
    binding = {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": meta("b")}
    binding |= {"roleRef": reference, "subjects": [subject]}
    cases = {
        "to a role that is not there": (201, "roleRef", reference),
        "account without a namespace": (201, "subjects.0", {"kind": "ServiceAccount", "name": "a"}),
        "subject of unknown kind": (422, "subjects.0.kind", "Robot"),
        "role of unknown kind": (422, "roleRef.kind", "Rolle"),
        "role without a name": (422, "roleRef.name", ""),
        "a user": (201, "subjects.0", {"kind": "User", "name": "jane"}),
    }
    yield from variants("rolebindings", binding, cases)
    yield create(201, "bound", "rolebindings", binding)
    yield replace(422, "bound to another role", "rolebindings", changed(binding, "roleRef.name", "other"))


def _spaces_and_limits() -> Iterator[Step]:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta("some-space")}
    cases = {
        "namespace with a dot": (422, "metadata.name", "a.b"),
        "namespace of 64": (422, "metadata.name", "a" * 64),
        "namespace": (201, "metadata.labels.a", "b"),
    }
    yield from variants("namespaces", space, cases)
    yield read(200, "our own namespace", "namespaces", "${ns}")
    yield read(404, "a namespace that is not there", "namespaces", "${ns}-absent")
    yield read(404, "an object in such a namespace", "configmaps", "a", space="${ns}-absent")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("a")}
    yield create(404, "made in such a namespace", "configmaps", config_map, space="${ns}-absent")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta("q"), "spec": {"hard": {"pods": "1"}}}
    cases = {
        "quota with a bad quantity": (400, "spec.hard.pods", "one"),
        "quota of half a pod": (422, "spec.hard.pods", "500m"),
        "quota of something unknown": (422, "spec.hard.things", "1"),
        "quota by count": (201, "spec.hard.count/jobs~batch", "4"),
    }
    yield from variants("resourcequotas", quota, cases)
    limits = {"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"}}
    ranges = {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta("l"), "spec": {"limits": [limits]}}
    wrong: Json = {
        "limit range": (201, "metadata.labels.a", "b"),
        "default over the largest": (422, "spec.limits.0.default.cpu", "3"),
        "limits of a type twice": (422, "spec.limits", [limits, limits]),
    }
    yield from variants("limitranges", ranges, wrong)


SCENARIOS = (
    Scenario("services", tuple(_services())),
    Scenario("ingresses", tuple(_ingresses())),
    Scenario("network-policies", tuple(_network_policies())),
    Scenario("jobs", tuple(_jobs())),
    Scenario("access-objects", tuple(_access_objects())),
    Scenario("spaces", tuple(_spaces_and_limits())),
)
