"""Who may do what: Roles, SelfSubjectAccessReview, Pod Security, quotas and limit ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.cluster.differential.objects import (
    changed,
    config_map,
    deployment,
    job,
    meta,
    pod,
    provider_deployment,
    secret,
)
from tests.cluster.differential.steps import (
    METADATA_LIST,
    Json,
    Scenario,
    Step,
    apply,
    create,
    delete,
    listing,
    patch,
    read,
    replace,
)

API = "rbac.authorization.k8s.io"


def _role(name: str, *rules: Json) -> Json:
    return {"apiVersion": f"{API}/v1", "kind": "Role", "metadata": meta(name), "rules": list(rules)}


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str], *names: str) -> Json:
    rule: Json = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    return {**rule, "resourceNames": list(names)} if names else rule


def _binding(name: str, role: str, account: str, *, space: str = "${ns}") -> Json:
    return {
        "apiVersion": f"{API}/v1",
        "kind": "RoleBinding",
        "metadata": meta(name),
        "roleRef": {"apiGroup": API, "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": space}],
    }


def _review(code: int, title: str, account: str, **attributes: str) -> Step:
    """Ask whether this account may do that."""
    wanted = {"namespace": "${ns}", **attributes}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}},
    }
    return create(code, title, "selfsubjectaccessreviews", body, account=account)


def _setup() -> Iterator[Step]:
    for name in ("worker", "stranger"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name)}
        yield create(201, f"account {name}", "serviceaccounts", account)
    rules = (
        _rule("", ["configmaps"], ["get", "list", "watch", "create", "patch"]),
        _rule("", ["secrets"], ["get"], "allowed"),
        _rule("", ["pods/log"], ["get"]),
        _rule("apps", ["*"], ["get"]),
        _rule("batch", ["jobs"], ["*"]),
    )
    yield create(201, "role", "roles", _role("work", *rules))
    yield create(201, "binding", "rolebindings", _binding("work", "work", "worker"))
    yield create(201, "something to see", "configmaps", config_map("cm"))
    yield create(201, "a secret", "secrets", secret("allowed"))


def _roles() -> Iterator[Step]:
    yield from _setup()
    me: dict[str, Any] = {"account": "worker"}
    yield read(200, "get", "configmaps", "cm", **me, until=lambda a: a.code == 200)
    yield listing(200, "list", "configmaps", query={"fieldSelector": "metadata.name=cm"}, **me)
    yield create(201, "create", "configmaps", config_map("mine"), **me)
    yield patch(200, "patch", "configmaps", "mine", {"data": {"a": "2"}}, **me)
    yield apply(201, "apply makes: create and patch", "configmaps", config_map("applied"), **me)
    yield apply(200, "apply changes: patch", "configmaps", config_map("applied", {"a": "2"}), **me)
    yield apply(403, "apply elsewhere", "configmaps", config_map("applied"), space="${other}", **me)
    yield replace(403, "replace", "configmaps", config_map("mine"), **me)
    yield delete(403, "delete", "configmaps", "mine", **me)
    yield delete(403, "delete all", "configmaps", **me)
    yield listing(403, "list elsewhere", "configmaps", space="${other}", **me)
    yield listing(403, "list everywhere", "configmaps", space="", **me)
    yield read(200, "a secret by name", "secrets", "allowed", **me)
    yield read(403, "another secret", "secrets", "other", **me)
    yield listing(403, "all secrets", "secrets", **me)
    yield listing(403, "metadata of all secrets", "secrets", headers={"Accept": METADATA_LIST}, **me)
    yield listing(403, "watch secrets", "secrets", query={"watch": "true", "timeoutSeconds": "1"}, **me)
    yield read(404, "log of a pod that is not there", "pods", "absent", sub="log", **me)
    yield read(403, "the pod itself", "pods", "absent", **me)
    yield read(404, "anything in a group", "deployments", "absent", **me)
    yield read(404, "a subresource in a group", "deployments", "absent", sub="status", **me)
    yield listing(403, "but not list it", "deployments", **me)
    yield create(201, "any verb", "jobs", job("mine"), **me)
    yield patch(403, "but no subresource", "jobs", "mine", {"status": {}}, sub="status", **me)
    yield apply(403, "apply without patch", "deployments", deployment("d"), **me)
    yield create(403, "no such right: a role", "roles", _role("x", _rule("", ["pods"], ["get"])), **me)
    yield read(403, "a namespace", "namespaces", "${ns}", **me)
    yield Step(title="something that is none", code=403, method="GET", path="/api/v1/namespaces/${ns}/things", **me)
    yield Step(title="a path that is none", code=403, method="GET", path="/nothing", **me)
    yield Step(title="version for everybody", code=200, method="GET", path="/version", **me)
    yield Step(title="discovery for everybody", code=200, method="GET", path="/apis/apps/v1", **me)
    yield read(403, "a stranger", "configmaps", "cm", account="stranger")
    yield delete(200, "the binding goes", "rolebindings", "work")
    yield read(403, "and the rights with it", "configmaps", "cm", **me, until=lambda a: a.code == 403)


def _reviews() -> Iterator[Step]:
    yield from _setup()
    yield read(200, "the rights are known", "configmaps", "cm", account="worker", until=lambda a: a.code == 200)
    yield _review(201, "get", "worker", verb="get", resource="configmaps")
    yield _review(201, "delete", "worker", verb="delete", resource="configmaps")
    yield _review(201, "get elsewhere", "worker", verb="get", resource="configmaps", namespace="${other}")
    yield _review(201, "get everywhere", "worker", verb="get", resource="configmaps", namespace="")
    yield _review(201, "get a secret by name", "worker", verb="get", resource="secrets", name="allowed")
    yield _review(201, "get any secret", "worker", verb="get", resource="secrets")
    yield _review(201, "get logs", "worker", verb="get", resource="pods", subresource="log")
    yield _review(
        201, "status of deployments", "worker", verb="get", resource="deployments", group="apps", subresource="status"
    )
    yield _review(201, "get pods", "worker", verb="get", resource="pods")
    yield _review(201, "get deployments", "worker", verb="get", resource="deployments", group="apps")
    yield _review(201, "get deployments of no group", "worker", verb="get", resource="deployments")
    yield _review(201, "anything with jobs", "worker", verb="*", resource="jobs", group="batch")
    yield _review(201, "everything", "worker", verb="*", resource="*", group="*")
    yield _review(201, "as the administrator", "", verb="delete", resource="nodes", namespace="")
    empty = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
    yield create(422, "of nothing", "selfsubjectaccessreviews", empty)
    path = {**empty, "spec": {"nonResourceAttributes": {"path": "/version", "verb": "get"}}}
    yield create(201, "of a path", "selfsubjectaccessreviews", path, account="stranger")
    yield listing(405, "reviews can't be listed", "selfsubjectaccessreviews")


def _hardened() -> Json:
    hard = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return changed(pod("hard"), "spec.containers.0.securityContext", hard)


def _pod_security(level: str) -> Iterator[Step]:
    """The same pods under each level."""
    first = "spec.containers.0.securityContext"
    capable = {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]}
    cases = {
        "plain": pod("plain"),
        "hardened": _hardened(),
        "privileged": changed(pod("x"), first, {"privileged": True}),
        "host network": changed(pod("x"), "spec.hostNetwork", True),
        "host pid": changed(pod("x"), "spec.hostPID", True),
        "host path": changed(pod("x"), "spec.volumes", [{"name": "h", "hostPath": {"path": "/"}}]),
        "host port": changed(pod("x"), "spec.containers.0.ports", [{"containerPort": 1, "hostPort": 1}]),
        "builder's capabilities": changed(
            pod("x"), first, {"capabilities": capable, "allowPrivilegeEscalation": False}
        ),
        "a capability too many": changed(pod("x"), first, {"capabilities": {"add": ["SYS_ADMIN"]}}),
        "an unconfined seccomp": changed(pod("x"), first, {"seccompProfile": {"type": "Unconfined"}}),
        "a safe sysctl": changed(
            pod("x"),
            "spec.securityContext",
            {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        ),
        "an unsafe sysctl": changed(
            pod("x"), "spec.securityContext", {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}
        ),
        "root by number": changed(_hardened(), f"{first}.runAsUser", 0),
        "bad init container": changed(
            _hardened(), "spec.initContainers", [{"name": "i", "image": "i", "securityContext": {"privileged": True}}]
        ),
        "several things wrong": changed(changed(pod("x"), "spec.hostNetwork", True), first, {"privileged": True}),
    }
    good = {
        "baseline": {"plain", "hardened", "builder's capabilities", "a safe sysctl", "root by number"},
        "restricted": {"hardened"},
    }
    for title, thing in cases.items():
        code = 201 if title in good[level] else 403
        yield create(code, title, "pods", thing, query={"dryRun": "All"})
    bad = changed(deployment("bad"), "spec.template.spec.hostNetwork", True)
    yield create(201, "a deployment is only warned about", "deployments", bad, query={"dryRun": "All"})
    yield apply(201, "applied as well", "deployments", provider_deployment("web"), query={"dryRun": "All"})
    yield create(201, "a job too", "jobs", job("j"), query={"dryRun": "All"})


def _quotas() -> Iterator[Step]:
    hard = {
        "pods": "1",
        "limits.memory": "1Gi",
        "requests.cpu": "1",
        "count/secrets": "2",
        "count/deployments.apps": "1",
    }
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta("small"), "spec": {"hard": hard}}
    yield create(201, "quota", "resourcequotas", quota)
    dry = {"dryRun": "All"}
    yield create(403, "quota counts", "pods", pod("silent"), query=dry, until=lambda answer: answer.code == 403)
    fits = {"limits": {"memory": "512Mi"}, "requests": {"cpu": "500m"}}
    resources = "spec.containers.0.resources"
    yield create(403, "a pod that says nothing", "pods", pod("silent"))
    yield create(403, "a pod that says half", "pods", changed(pod("half"), resources, {"limits": {"memory": "1Mi"}}))
    yield create(403, "too much memory", "pods", changed(pod("big"), resources, changed(fits, "limits.memory", "2Gi")))
    yield create(
        403, "too much of both", "pods", changed(pod("big"), resources, {"limits": {"memory": "2Gi", "cpu": "3"}})
    )
    yield create(201, "one that fits", "pods", changed(pod("one"), resources, fits))
    yield create(403, "one too many", "pods", changed(pod("two"), resources, fits))
    yield create(201, "first secret", "secrets", secret("one"))
    yield create(201, "second secret", "secrets", secret("two"))
    yield create(403, "a secret too many", "secrets", secret("three"))
    yield apply(403, "the same by apply", "secrets", secret("three"))
    yield create(403, "the same, dry", "secrets", secret("three"), query={"dryRun": "All"})
    yield delete(200, "one secret goes", "secrets", "two")
    yield create(201, "there is room again", "secrets", secret("three"), until=lambda a: a.code == 201)
    yield create(201, "first deployment", "deployments", deployment("one"))
    yield create(403, "a deployment too many", "deployments", deployment("two"))


def _limit_ranges() -> Iterator[Step]:
    limits = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m"},
        "max": {"cpu": "2", "memory": "2Gi"},
        "min": {"memory": "16Mi"},
    }
    ranges = {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta("l"), "spec": {"limits": [limits]}}
    yield create(201, "limit range", "limitranges", ranges)
    resources = "spec.containers.0.resources"
    dry = {"dryRun": "All"}
    waited: Json = {"until": lambda a: a.code != 201 or "limit-ranger" in str(a.body["metadata"].get("annotations"))}
    yield create(201, "filled in", "pods", pod("a"), query=dry, **waited)
    yield create(201, "half filled in", "pods", changed(pod("a"), resources, {"limits": {"cpu": "500m"}}), query=dry)
    yield create(403, "over the largest", "pods", changed(pod("a"), resources, {"limits": {"cpu": "3"}}), query=dry)
    yield create(
        403, "under the smallest", "pods", changed(pod("a"), resources, {"requests": {"memory": "1Mi"}}), query=dry
    )
    yield create(201, "a deployment is left alone", "deployments", deployment("d"), query=dry)


def _enforced(level: str) -> dict[str, str]:
    return {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}


SCENARIOS = (
    Scenario("roles", tuple(_roles())),
    Scenario("reviews", tuple(_reviews())),
    Scenario("baseline", tuple(_pod_security("baseline")), _enforced("baseline")),
    Scenario("restricted", tuple(_pod_security("restricted")), _enforced("restricted")),
    Scenario("quotas", tuple(_quotas())),
    Scenario("limit-ranges", tuple(_limit_ranges())),
)
