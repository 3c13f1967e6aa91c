"""From a Deployment to what the container engine is told: the engine runs what the manifest says.

Pure. The manifest is the one that `render` makes for both platforms, so a record's last good revision
can be put back here without anything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from provider import names, render
from provider.models import Revision
from provider.spec import quantities

LABEL_PREFIX = render.PREFIX
SLUG_LABEL = LABEL_PREFIX + "slug"
GENERATION_LABEL = LABEL_PREFIX + "generation"
CHECKSUM_LABEL = LABEL_PREFIX + "checksum"
IMAGE_LABEL = LABEL_PREFIX + "image"
"""The image by its digest in the registry; the engine runs it by whatever name it has there."""
PLATFORM_LABEL = LABEL_PREFIX + "platform-id"


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP probe, or with `path` None one that only connects; seconds as in Kubernetes."""

    path: str | None
    initial_delay: float
    period: float
    timeout: float
    failures: int


@dataclass(frozen=True, slots=True)
class Workload:
    """The parts of a revision's Deployment that the engine and its probes need."""

    image: str
    port: int
    http2: bool
    environment: dict[str, str]
    missing_keys: tuple[str, ...]
    startup: Probe | None
    readiness: Probe
    liveness: Probe
    container: dict[str, Any]
    pod: dict[str, Any]


def quantity(value: object) -> Decimal:
    """A Kubernetes quantity as a number ("200m" → 0.2, "512Mi" → 536870912)."""
    found = quantities.amount(str(value))
    assert found is not None, f"render wrote the quantity {value!r}"
    return found


def json_annotation(annotations: dict[str, str], name: str) -> dict[str, str]:
    """A JSON object that stands in one of our annotations; empty where there is none."""
    return dict(json.loads(annotations.get(LABEL_PREFIX + name, "{}")))


def find(manifests: tuple[dict[str, Any], ...], kind: str) -> dict[str, Any]:
    """The manifest of that kind."""
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


def is_closed(revision: Revision) -> bool:
    """Whether nothing outside is to be reached from the revision."""
    deployments = [one["metadata"] for one in revision.manifests if one["kind"] == "Deployment"]
    return any((one.get("annotations") or {}).get(render.EGRESS) == "none" for one in deployments)


def network(slug: str, revision: Revision) -> str:
    """The network that the revision's container is in."""
    return names.network(slug, closed=is_closed(revision))


def workload(revision: Revision, bundle: dict[str, str]) -> Workload:
    """What `revision` runs.

    Args:
        revision: its manifests decide.
        bundle: values of its secret bundle.
    """
    deployment = find(revision.manifests, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    environment, missing = _environment(container.get("env", []), bundle)
    annotations = find(revision.manifests, "Ingress")["metadata"].get("annotations", {})
    return Workload(
        image=container["image"],
        port=int(container["ports"][0]["containerPort"]),
        http2=annotations.get(LABEL_PREFIX + "backend-protocol") == "http2",
        environment=environment,
        missing_keys=missing,
        startup=_probe(container["startupProbe"]) if "startupProbe" in container else None,
        readiness=_probe(container["readinessProbe"]),
        liveness=_probe(container["livenessProbe"]),
        container=container,
        pod=pod,
    )


def engine_config(work: Workload, *, labels: dict[str, str], network: str, address: str, pids: int) -> dict[str, Any]:
    """The engine's (Docker API) description of a container that runs `work` in its own network.

    Args:
        work: what runs.
        labels: found again by these.
        network: the preview's network.
        address: the container's fixed IPv4 there, so that a restart does not move it.
        pids: most processes.
    """
    limits = work.container["resources"]["limits"]
    security = work.container.get("securityContext", {})
    config: dict[str, Any] = {
        "Image": work.image,
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},  # the provider probes; an image's own check would only cost
        "Env": [f"{name}={value}" for name, value in work.environment.items()],
        "HostConfig": {
            "NetworkMode": network,
            "CapDrop": list(security.get("capabilities", {}).get("drop", ["ALL"])),
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem", False)),
            "PidsLimit": pids,
            "Memory": int(quantity(limits["memory"])),
            "MemorySwap": int(quantity(limits["memory"])),
            "NanoCpus": int(quantity(limits["cpu"]) * 10**9),
            "Sysctls": {item["name"]: item["value"] for item in _sysctls(work.pod)},
            "RestartPolicy": {"Name": "always"},
            "LogConfig": {"Type": "k8s-file", "Config": {"max-size": "10mb"}},
            **_mounts(work),
        },
        "NetworkingConfig": {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": address}}}},
    }
    return config


def _sysctls(pod: dict[str, Any]) -> list[dict[str, str]]:
    return list(pod.get("securityContext", {}).get("sysctls", []))


def _mounts(work: Workload) -> dict[str, Any]:
    """An emptyDir in memory → tmpfs; any other → an anonymous volume that goes with the container."""
    kinds = {volume["name"]: volume.get("emptyDir", {}) for volume in work.pod.get("volumes", [])}
    tmpfs: dict[str, str] = {}
    mounts: list[dict[str, Any]] = []
    for mount in work.container.get("volumeMounts", []):
        source = kinds[mount["name"]]
        if source.get("medium") == "Memory":
            size = source.get("sizeLimit")
            tmpfs[mount["mountPath"]] = "rw,mode=1777" + (f",size={int(quantity(size))}" if size else "")
        else:
            mounts.append({"Type": "volume", "Target": mount["mountPath"], "ReadOnly": False})
    return {"Tmpfs": tmpfs, "Mounts": mounts}


def _environment(entries: list[dict[str, Any]], bundle: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    values: dict[str, str] = {}
    missing: list[str] = []
    for entry in entries:
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if reference is None:
            values[entry["name"]] = render.env_value(entry.get("value", ""))
        elif reference["key"] in bundle:
            values[entry["name"]] = bundle[reference["key"]]
        else:
            missing.append(reference["key"])
    return values, tuple(missing)


def _probe(probe: dict[str, Any]) -> Probe:
    return Probe(
        path=probe["httpGet"]["path"] if "httpGet" in probe else None,
        initial_delay=float(probe.get("initialDelaySeconds", 0)),
        period=float(probe.get("periodSeconds", 10)),
        timeout=float(probe.get("timeoutSeconds", 1)),
        failures=int(probe.get("failureThreshold", 3)),
    )
