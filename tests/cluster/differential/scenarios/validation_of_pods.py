"""What a picky server refuses in a pod: every case is a dry-run create with one thing wrong, or just unusual."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import DROP, pod, pod_spec, variants
from tests.cluster.differential.steps import Scenario, Step

LONG = "x" * 64


def _containers() -> Iterator[Step]:
    first = "spec.containers.0."
    tcp = {"tcpSocket": {"port": 80}}
    key = {"secretKeyRef": {"name": "s", "key": "k"}}
    cases = {
        "no containers": (422, "spec.containers", []),
        "containers left out": (422, "spec.containers", DROP),
        "container name with a dot": (422, first + "name", "a.b"),
        "container name too long": (422, first + "name", LONG),
        "two of a name": (422, "spec.containers", [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]),
        "no image": (422, first + "image", DROP),
        "image with a space": (422, first + "image", " a"),
        "pull policy unknown": (422, first + "imagePullPolicy", "Sometimes"),
        "restart policy unknown": (422, "spec.restartPolicy", "Often"),
        "dns policy unknown": (422, "spec.dnsPolicy", "Mine"),
        "port 0": (422, first + "ports", [{"containerPort": 0}]),
        "port 65536": (422, first + "ports", [{"containerPort": 65536}]),
        "port name too long": (422, first + "ports", [{"containerPort": 1, "name": "a" * 16}]),
        "port name without letters": (422, first + "ports", [{"containerPort": 1, "name": "80"}]),
        "two ports of a name": (
            422,
            first + "ports",
            [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}],
        ),
        "port twice": (201, first + "ports", [{"containerPort": 1}, {"containerPort": 1}]),
        "port protocol unknown": (422, first + "ports", [{"containerPort": 1, "protocol": "ICMP"}]),
        "env without a name": (422, first + "env", [{"name": "", "value": "1"}]),
        "env name with a space": (201, first + "env", [{"name": "A B", "value": "1"}]),
        "env name with an equals sign": (422, first + "env", [{"name": "A=B", "value": "1"}]),
        "env of value and source": (422, first + "env", [{"name": "A", "value": "1", "valueFrom": key}]),
        "env of no source": (422, first + "env", [{"name": "A", "valueFrom": {}}]),
        "env of a field that is none": (
            422,
            first + "env",
            [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}}],
        ),
        "env twice": (201, first + "env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "env from a secret": (201, first + "envFrom", [{"secretRef": {"name": "s"}}]),
        "env from nothing": (422, first + "envFrom", [{}]),
        "limit below request": (422, first + "resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        "limits only": (201, first + "resources", {"limits": {"cpu": "2", "memory": "1.5Gi"}}),
        "quantity that is none": (400, first + "resources", {"limits": {"memory": "1Gig"}}),
        "quantity negative": (422, first + "resources", {"limits": {"memory": "-1"}}),
        "quantity written otherwise": (201, first + "resources", {"limits": {"cpu": "0.5", "memory": "1024Mi"}}),
        "quantity with an exponent": (400, first + "resources", {"limits": {"cpu": "1e3m", "memory": "1e9"}}),
        "cpu finer than a milli": (201, first + "resources", {"limits": {"cpu": "0.0001"}}),
        "memory in millis": (201, first + "resources", {"limits": {"memory": "512m"}}),
        "resource unknown": (422, first + "resources", {"limits": {"disk": "1Gi"}}),
        "resource with a domain": (201, first + "resources", {"limits": {"example.com/gpu": "1"}}),
        "ephemeral storage": (201, first + "resources", {"limits": {"ephemeral-storage": "512Mi"}}),
        "probe of no kind": (422, first + "readinessProbe", {"periodSeconds": 1}),
        "probe of two kinds": (422, first + "readinessProbe", {**tcp, "httpGet": {"port": 80}}),
        "probe on port 0": (422, first + "readinessProbe", {"tcpSocket": {"port": 0}}),
        "probe on a name that is none": (422, first + "readinessProbe", {"tcpSocket": {"port": "a_b"}}),
        "probe with a negative period": (422, first + "readinessProbe", {**tcp, "periodSeconds": -1}),
        "probe with a period of 0": (201, first + "readinessProbe", {**tcp, "periodSeconds": 0}),
        "probe with a bad scheme": (422, first + "readinessProbe", {"httpGet": {"port": 80, "scheme": "FTP"}}),
        "probe with a bad header": (
            422,
            first + "readinessProbe",
            {"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": "1"}]}},
        ),
        "liveness wants success once": (422, first + "livenessProbe", {**tcp, "successThreshold": 2}),
        "startup wants success once": (422, first + "startupProbe", {**tcp, "successThreshold": 2}),
        "gRPC probe": (201, first + "readinessProbe", {"grpc": {"port": 80}}),
        "exec probe without a command": (422, first + "livenessProbe", {"exec": {}}),
        "termination message policy unknown": (422, first + "terminationMessagePolicy", "Never"),
        "privileged without escalation": (
            422,
            first + "securityContext",
            {"privileged": True, "allowPrivilegeEscalation": False},
        ),
        "run as a negative user": (422, first + "securityContext", {"runAsUser": -1}),
        "seccomp type unknown": (422, first + "securityContext", {"seccompProfile": {"type": "Some"}}),
        "seccomp localhost without a profile": (
            422,
            first + "securityContext",
            {"seccompProfile": {"type": "Localhost"}},
        ),
        "proc mount unknown": (422, first + "securityContext", {"procMount": "None"}),
        "mount of no volume": (422, first + "volumeMounts", [{"name": "v", "mountPath": "/v"}]),
    }
    yield from variants("pods", pod("containers"), cases)


def _pods() -> Iterator[Step]:
    volume = "spec.volumes"
    cases = {
        "volume of no kind": (201, volume, [{"name": "v"}]),
        "volume of two kinds": (422, volume, [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]),
        "two volumes of a name": (422, volume, [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
        "volume name with a dot": (422, volume, [{"name": "a.b", "emptyDir": {}}]),
        "empty dir of negative size": (422, volume, [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]),
        "secret volume with defaults": (201, volume, [{"name": "v", "secret": {"secretName": "s"}}]),
        "secret volume without a secret": (422, volume, [{"name": "v", "secret": {}}]),
        "secret volume climbing out": (
            422,
            volume,
            [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "../k"}]}}],
        ),
        "config map volume": (201, volume, [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}]),
        "config map mode too large": (422, volume, [{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}]),
        "projected volume": (
            201,
            volume,
            [
                {
                    "name": "v",
                    "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]},
                }
            ],
        ),
        "host path": (201, volume, [{"name": "v", "hostPath": {"path": "/x"}}]),
        "unknown kind of volume": (201, volume, [{"name": "v", "cloudDisk": {}}]),
        "grace period negative": (201, "spec.terminationGracePeriodSeconds", -1),
        "deadline 0": (422, "spec.activeDeadlineSeconds", 0),
        "sysctl with a bad name": (422, "spec.securityContext", {"sysctls": [{"name": "a b", "value": "1"}]}),
        "sysctl twice": (
            422,
            "spec.securityContext",
            {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}] * 2},
        ),
        "fs group negative": (422, "spec.securityContext", {"fsGroup": -1}),
        "node selector with a bad label": (422, "spec.nodeSelector", {"a b": "c"}),
        "toleration with a bad operator": (422, "spec.tolerations", [{"key": "a", "operator": "Like"}]),
        "toleration exists with a value": (
            422,
            "spec.tolerations",
            [{"key": "a", "operator": "Exists", "value": "v"}],
        ),
        "toleration without an effect": (201, "spec.tolerations", [{"key": "a", "operator": "Equal", "value": "v"}]),
        "toleration seconds without NoExecute": (
            422,
            "spec.tolerations",
            [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}],
        ),
        "host name with a dot": (422, "spec.hostname", "a.b"),
        "host alias without an IP": (422, "spec.hostAliases", [{"ip": "here", "hostnames": ["a"]}]),
        "pull secret without a name": (201, "spec.imagePullSecrets", [{}]),
        "service account with a bad name": (403, "spec.serviceAccountName", "A"),
        "service account that is not there": (403, "spec.serviceAccountName", "absent"),
        "priority class that is not there": (403, "spec.priorityClassName", "absent"),
        "runtime class that is not there": (403, "spec.runtimeClassName", "absent"),
        "affinity without terms": (
            422,
            "spec.affinity",
            {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        ),
        "init container": (201, "spec.initContainers", [{"name": "first", "image": "i"}]),
        "init container named as another": (422, "spec.initContainers", [{"name": "app", "image": "i"}]),
        "init container with a readiness probe": (
            422,
            "spec.initContainers",
            [{"name": "first", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}],
        ),
        "sidecar": (201, "spec.initContainers", [{"name": "side", "image": "i", "restartPolicy": "Always"}]),
        "host network": (201, "spec.hostNetwork", True),
        "share process namespace": (201, "spec.shareProcessNamespace", True),
        "everything by default": (201, "spec", {"containers": [{"name": "a", "image": "i"}]}),
        "image without a tag": (201, "spec.containers.0.image", "host.test:5000/app"),
        "image by digest": (201, "spec.containers.0.image", "host.test:5000/app@sha256:" + "0" * 64),
        "image of tag latest": (201, "spec.containers.0.image", "app:latest"),
    }
    yield from variants("pods", pod("pods"), cases)


def _mounts() -> Iterator[Step]:
    base = pod("mounts", pod_spec(volumes=[{"name": "v", "emptyDir": {}}]))
    path = "spec.containers.0.volumeMounts"
    cases = {
        "relative": (201, path, [{"name": "v", "mountPath": "v"}]),
        "with a colon": (201, path, [{"name": "v", "mountPath": "/a:b"}]),
        "twice at a path": (422, path, [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]),
        "without a path": (422, path, [{"name": "v", "mountPath": ""}]),
        "sub path climbing out": (422, path, [{"name": "v", "mountPath": "/a", "subPath": "../a"}]),
    }
    yield from variants("pods", base, cases)


SCENARIOS = (
    Scenario("containers", tuple(_containers())),
    Scenario("pods", tuple(_pods())),
    Scenario("mounts", tuple(_mounts())),
)
