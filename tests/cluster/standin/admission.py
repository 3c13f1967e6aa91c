"""Admission: what a namespace allows beyond what is valid, and what is added to pods on their way in."""

from __future__ import annotations

from tests.cluster.standin import pod_security, quota
from tests.cluster.standin.quantities import amount
from tests.cluster.standin.resources import BY_KIND, Resource
from tests.cluster.standin.status import Cause, forbidden, not_found
from tests.cluster.standin.storage import Storage
from tests.cluster.standin.values import Object, at, items, mapping

NAMESPACE = BY_KIND["Namespace"]
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
GRACE = 300  # seconds that a pod stays on a node that is not ready


def namespace_of(storage: Storage, resource: Resource, obj: Object) -> Object:
    """The namespace that an object is made in; ApiError 404 if it is not there, 403 if it is going."""
    name = obj["metadata"].get("namespace", "")
    found = storage.get(NAMESPACE, (None, name))
    if found is None:
        raise not_found("", "namespaces", name)
    if at(found, "status", "phase") == "Terminating":
        why = f"unable to create new content in namespace {name} because it is being terminated"
        cause = Cause("NamespaceTerminating", f"namespace {name} is being terminated", "metadata.namespace")
        raise forbidden(resource.group, resource.plural, obj["metadata"].get("name", ""), why, [cause])
    return found


def mutate(storage: Storage, resource: Resource, obj: Object) -> None:
    """What admission adds to a new object; ApiError 403 for a pod without its service account."""
    if resource.kind != "Pod":
        return
    spec = mapping(obj, "spec")
    _limit_defaults(storage, obj)
    _service_account(storage, obj, spec)
    if spec.get("priorityClassName"):  # the store has no such kind, so nobody can have made one
        why = f"no PriorityClass with name {spec['priorityClassName']} was found"
        raise forbidden("", "pods", obj["metadata"].get("name", ""), why)
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    known = {toleration.get("key") for toleration in items(spec, "tolerations")}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if key not in known:
            added = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GRACE}
            spec.setdefault("tolerations", []).append(added)


def _service_account(storage: Storage, obj: Object, spec: Object) -> None:
    """Names the account and mounts its token, unless the pod or the account says not to."""
    namespace, name = obj["metadata"].get("namespace", ""), spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = name
    account = storage.get(BY_KIND["ServiceAccount"], (namespace, name))
    if account is None:
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise forbidden("", "pods", obj["metadata"].get("name", ""), why)
    if not spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
        return
    volume = f"kube-api-access-{obj['metadata']['uid'][:5]}"
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": NAMESPACE_FIELD}]}},
    ]
    spec.setdefault("volumes", []).append({"name": volume, "projected": {"sources": sources, "defaultMode": 420}})
    for container in (*items(spec, "initContainers"), *items(spec, "containers")):
        mounts = container.setdefault("volumeMounts", [])
        if all(mount.get("mountPath") != TOKEN_PATH for mount in mounts):
            mounts.append({"name": volume, "readOnly": True, "mountPath": TOKEN_PATH})


NAMESPACE_FIELD = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}


def _limit_defaults(storage: Storage, obj: Object) -> None:
    """What the namespace's LimitRanges give to containers that don't say their limits; noted in an annotation."""
    given: list[str] = []
    for limit_range in storage.scan(BY_KIND["LimitRange"], obj["metadata"].get("namespace", "")):
        for item in items(limit_range, "spec", "limits"):
            if item.get("type") == "Container":
                for group, word in (("initContainers", "init container"), ("containers", "container")):
                    for container in items(obj, "spec", group):
                        given += [f"{what} for {word} {container['name']}" for what in _fill(item, container)]
    if given:
        annotations = obj["metadata"].setdefault("annotations", {})
        annotations["kubernetes.io/limit-ranger"] = f"LimitRanger plugin set: {'; '.join(given)}"


def _fill(item: Object, container: Object) -> list[str]:
    """Fills in what a container leaves out; says what that was: `cpu, memory request`."""
    given = []
    for ours, theirs in (("requests", "defaultRequest"), ("limits", "default")):
        present = mapping(container, "resources", ours)
        missing = {unit: value for unit, value in mapping(item, theirs).items() if unit not in present}
        if missing:
            container["resources"][ours] = {**present, **missing}
            given.append(f"{', '.join(sorted(missing))} {ours.removesuffix('s')}")
    return given


def validate(storage: Storage, resource: Resource, obj: Object, old: Object | None) -> None:
    """ApiError 403 for what the namespace does not allow."""
    if not resource.namespaced:
        return
    namespace = storage.get(NAMESPACE, (None, obj["metadata"]["namespace"])) or {}
    if resource.kind == "Pod" and (old is None or old.get("spec") != obj.get("spec")):
        _limits(storage, obj)
        pod_security.enforce(namespace, obj)
    if old is None:
        quota.enforce(storage, resource, obj)


def _limits(storage: Storage, pod: Object) -> None:
    """LimitRange bounds of containers."""
    wrong: list[str] = []
    for limit_range in storage.scan(BY_KIND["LimitRange"], pod["metadata"].get("namespace", "")):
        for item in items(limit_range, "spec", "limits"):
            if item.get("type") == "Container":
                for container in (*items(pod, "spec", "initContainers"), *items(pod, "spec", "containers")):
                    wrong += _outside(item, mapping(container, "resources"))
    if wrong:
        told = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
        raise forbidden("", "pods", pod["metadata"].get("name", ""), told)


def _outside(item: Object, resources: Object) -> list[str]:
    wrong = []
    for unit, most in sorted(mapping(item, "max").items()):
        limit = mapping(resources, "limits").get(unit)
        if limit is None:
            wrong.append(f"maximum {unit} usage per Container is {most}. No limit is specified")
        elif amount(limit) > amount(most):
            wrong.append(f"maximum {unit} usage per Container is {most}, but limit is {limit}")
    for unit, least in sorted(mapping(item, "min").items()):
        request = mapping(resources, "requests").get(unit)
        if request is None:
            wrong.append(f"minimum {unit} usage per Container is {least}. No request is specified")
        elif amount(request) < amount(least):
            wrong.append(f"minimum {unit} usage per Container is {least}, but request is {request}")
    return wrong
