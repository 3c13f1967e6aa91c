"""What the server fills in for pods and pod templates."""

from __future__ import annotations

from tests.cluster.standin import quantities
from tests.cluster.standin.values import Object, at, items, mapping

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
FILE_MODE = 0o644


def default_template(owner: Object) -> None:
    """The pod template of a workload's spec."""
    template = owner.setdefault("template", {})
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))


def default_pod(obj: Object) -> None:
    """A pod itself: what a template has, and requests that follow from limits."""
    spec = obj.setdefault("spec", {})
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in (*items(spec, "initContainers"), *items(spec, "containers")):
        limits = mapping(container, "resources", "limits")
        if limits:
            requests = {**limits, **mapping(container, "resources", "requests")}
            container["resources"]["requests"] = requests
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def default_pod_spec(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    if spec.setdefault("terminationGracePeriodSeconds", 30) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if "serviceAccountName" in spec:
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]
    for container in (*items(spec, "initContainers"), *items(spec, "containers")):
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in items(spec, "volumes"):
        _volume(volume)


def _container(container: Object, *, host_network: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", _pull_policy(str(container.get("image", ""))))
    _resources(container.setdefault("resources", {}))
    for port in items(container, "ports"):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in PROBES:
        if name in container:
            _probe(container[name])
    for hook in mapping(container, "lifecycle").values():
        _handler(hook)
    _env(container)


def _env(container: Object) -> None:
    for variable in items(container, "env"):
        reference = at(variable, "valueFrom", "fieldRef")
        if isinstance(reference, dict):
            reference.setdefault("apiVersion", "v1")
        amount = at(variable, "valueFrom", "resourceFieldRef")
        if isinstance(amount, dict):
            amount.setdefault("divisor", "0")


def _resources(resources: Object) -> None:
    for kind in ("limits", "requests"):
        amounts = mapping(resources, kind)
        amounts |= {unit: quantities.in_millis(amount) for unit, amount in amounts.items()}


def _pull_policy(image: str) -> str:
    """Always for what may move: no tag, or `latest`, and no digest."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _probe(probe: Object) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    _handler(probe)


def _handler(handler: Object) -> None:
    if isinstance(handler.get("httpGet"), dict):
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")
    if isinstance(handler.get("grpc"), dict):
        handler["grpc"].setdefault("service", "")


def _volume(volume: Object) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(volume.get(source), dict):
            volume[source].setdefault("defaultMode", FILE_MODE)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    for item in items(volume, "downwardAPI", "items"):
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")
    for source in items(volume, "projected", "sources"):
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
