"""The objects that scenarios send: the smallest valid ones, and the full ones that the provider makes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from tests.cluster.differential.steps import Json, Step, create

DROP = object()  # as a value for `changed`: take the field away


def meta(name: str, **more: Json) -> Json:
    return {"name": name, **more}


def config_map(name: str, data: Mapping[str, str] | None = None, **metadata: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(name, **metadata),
        "data": dict(data or {"a": "1"}),
    }


def secret(name: str, data: Mapping[str, str] | None = None, **metadata: Json) -> Json:
    """`data` in plain text."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta(name, **metadata),
        "stringData": dict(data or {"k": "v"}),
    }


def container(name: str = "app", **more: Json) -> Json:
    return {"name": name, "image": "registry.invalid/app:1", **more}


def pod_spec(**more: Json) -> Json:
    """No scheduler takes it: nothing changes it behind our back."""
    return {"schedulerName": "nobody", "automountServiceAccountToken": False, "containers": [container()], **more}


def pod(name: str, spec: Json | None = None, **metadata: Json) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta(name, **metadata), "spec": spec or pod_spec()}


def deployment(name: str, **spec: Json) -> Json:
    """Without pods, and paused: else its controller annotates it, and losing that makes a new generation."""
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec()}
    wanted = {"replicas": 0, "paused": True, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(name), "spec": wanted}


def provider_deployment(name: str) -> Json:
    """As the provider's template makes it, with everything that has defaults or lists with keys."""
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10, "failureThreshold": 3}
    app = container(
        imagePullPolicy="IfNotPresent",
        ports=[{"name": "http", "containerPort": 3000, "protocol": "TCP"}],
        env=[
            {"name": "PLAIN", "value": "1"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "bundle", "key": "k"}}},
        ],
        resources={"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        readinessProbe=probe,
        livenessProbe={**probe, "initialDelaySeconds": 30},
        startupProbe={"tcpSocket": {"port": 3000}},
        securityContext={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "privileged": False},
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    )
    spec = pod_spec(
        enableServiceLinks=False,
        terminationGracePeriodSeconds=10,
        securityContext={
            "seccompProfile": {"type": "RuntimeDefault"},
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        containers=[app],
        volumes=[{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}],
    )
    template = {"metadata": {"labels": {"app": name}, "annotations": {"checksum": "abc"}}, "spec": spec}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return deployment(name, template=template, strategy=rolling, revisionHistoryLimit=2, progressDeadlineSeconds=120)


def service(name: str, **spec: Json) -> Json:
    wanted = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 3000}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": wanted}


def ingress(name: str, **spec: Json) -> Json:
    backend = {"service": {"name": name, "port": {"number": 80}}}
    rule = {
        "host": f"{name}.preview.test",
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
    }
    tls = [{"hosts": [f"{name}.preview.test"], "secretName": "wildcard"}]
    wanted = {"ingressClassName": "nginx", "tls": tls, "rules": [rule], **spec}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": meta(name, annotations={"nginx.ingress.kubernetes.io/backend-protocol": "HTTP"}),
        "spec": wanted,
    }


def network_policy(name: str, **spec: Json) -> Json:
    public = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}}
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}
    wanted = {
        "podSelector": {"matchLabels": {"app": name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"role": "ingress"}}}]}],
        "egress": [dns, {"to": [public]}],
        **spec,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name),
        "spec": wanted,
    }


def job(name: str, **spec: Json) -> Json:
    """No pod comes of it; suspended would not do, since such a job's template may still change."""
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec(restartPolicy="Never")}
    wanted = {"parallelism": 0, "backoffLimit": 1, "template": template, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta(name), "spec": wanted}


def owner(name: str, uid: str, kind: str = "ConfigMap", version: str = "v1", **more: Json) -> Json:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, **more}


def changed(thing: Json, path: str, value: Json) -> Json:
    """A copy with one field set (or dropped): `spec.containers.0.image`; `~` in a part stands for a dot."""
    result = copy.deepcopy(thing)
    *parents, last = [part.replace("~", ".") for part in path.split(".")]
    here: Any = result
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    if value is DROP:
        del here[int(last) if isinstance(here, list) else last]
    elif isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value
    return result


def variants(resource: str, base: Json, cases: Mapping[str, tuple[int, str, Json]], **more: Json) -> Iterator[Step]:
    """One dry-run create for each case `title: (code, path, value)`: nothing stays, so cases can't meet each other."""
    query = {"dryRun": "All", **more.pop("query", {})}
    for title, (code, path, value) in cases.items():
        yield create(code, title, resource, changed(base, path, value), query=query, **more)
