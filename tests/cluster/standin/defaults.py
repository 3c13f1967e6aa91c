"""What the server fills in where a request left it out; a pod's own defaults stand in defaults_pods.py."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.standin.defaults_pods import default_pod, default_template
from tests.cluster.standin.values import Object, at, items, mapping


def default(obj: Object) -> None:
    """Fills in the defaults of the object's kind, in place."""
    rule = RULES.get(str(obj.get("kind")))
    if rule is not None:
        rule(obj)


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_template(spec)


def _replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    if "template" in spec:
        default_template(spec)


def _stateful_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    keep = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    keep.setdefault("whenDeleted", "Retain")
    keep.setdefault("whenScaled", "Retain")
    default_template(spec)


def _job(obj: Object) -> None:
    labels = at(obj, "spec", "template", "metadata", "labels")
    if labels and not at(obj, "metadata", "labels"):
        # The very same mapping, as in the server: what is added to the template's labels shows here as well.
        obj.setdefault("metadata", {})["labels"] = labels
    _job_spec(obj.setdefault("spec", {}))


def _job_spec(spec: Object) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    if "backoffLimitPerIndex" not in spec:
        spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    default_template(spec)


def _cron_job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    inner = mapping(spec, "jobTemplate")
    if "spec" in inner:  # the Job's own fields are filled in when a Job is made of it
        default_template(inner["spec"])


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    for port in items(spec, "ports"):
        port.setdefault("protocol", "TCP")
        if "port" in port and port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port["port"]
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in (*items(spec, "ingress"), *items(spec, "egress")):
        for port in items(rule, "ports"):
            port.setdefault("protocol", "TCP")


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")


def _namespace(obj: Object) -> None:
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _claim(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _endpoint_slice(obj: Object) -> None:
    for port in items(obj, "ports"):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _binding(obj: Object) -> None:
    obj.setdefault("roleRef", {}).setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in items(obj, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")


def _role(obj: Object) -> None:
    obj.setdefault("rules", None)  # written even where there are none


def _event(obj: Object) -> None:
    """The core Event writes these though they are empty."""
    for key in ("firstTimestamp", "lastTimestamp", "eventTime"):
        obj.setdefault(key, None)
    for key in ("reportingComponent", "reportingInstance"):
        obj.setdefault(key, "")
    obj.setdefault("source", {})


def _limit_range(obj: Object) -> None:
    for item in items(obj, "spec", "limits"):
        if item.get("type") == "Container":
            limits = {**mapping(item, "max"), **mapping(item, "default")}
            requests = {**mapping(item, "min"), **limits, **mapping(item, "defaultRequest")}
            item.update({key: value for key, value in (("default", limits), ("defaultRequest", requests)) if value})


def _with_status(obj: Object) -> None:
    """Kinds whose status is a plain structure: it is always there, if only empty."""
    obj.setdefault("status", {})


def _ingress(obj: Object) -> None:
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _and_status(rule: Callable[[Object], None]) -> Callable[[Object], None]:
    def both(obj: Object) -> None:
        rule(obj)
        _with_status(obj)

    return both


RULES: dict[str, Callable[[Object], None]] = {
    "Pod": _and_status(default_pod),
    "Deployment": _and_status(_deployment),
    "ReplicaSet": _and_status(_replica_set),
    "StatefulSet": _and_status(_stateful_set),
    "Job": _and_status(_job),
    "CronJob": _and_status(_cron_job),
    "Service": _service,
    "Ingress": _ingress,
    "NetworkPolicy": _network_policy,
    "Secret": _secret,
    "Namespace": _namespace,
    "PersistentVolumeClaim": _claim,
    "EndpointSlice": _endpoint_slice,
    "Role": _role,
    "ClusterRole": _role,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "LimitRange": _limit_range,
    "Event": _event,
    "ResourceQuota": _with_status,
    "PodDisruptionBudget": _with_status,
    "Node": _with_status,
}
