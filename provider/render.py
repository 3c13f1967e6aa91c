"""(spec, image, secrets) → the Deployment, Service and Ingress of a preview.

Both platforms run what these objects say, and a record keeps them as the last good revision. Equal inputs
give equal objects: neither deploy id nor generation stands in them, so that a repeated deploy changes nothing
and rolls nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provider import names, templates
from provider.models import Bundle, digest_of
from provider.settings import Settings
from provider.spec import SELF_URL, SHARE_BASE_URL, EnvVar, Healthcheck, Runtime, Spec, check_supported
from provider.templates import Manifest

PREFIX = "preview.x1agent.io/"
MANAGED_BY = "x1-preview-provider"
EGRESS = PREFIX + "egress"
"""Annotation of a Deployment whose pods reach nothing outside: `none`."""
EXTRA_ENV_KEY = "env."
_TEMPLATES = ("deployment", "service", "ingress")
_MAX_STARTUP_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Release:
    """What runs: a commit of a branch as an image, with its secrets and further hosts.

    Args:
        image: reference by digest.
        bundle: the secrets that exist; a secret without a key in it is an empty value.
        alias_hosts: hosts beside `<slug>.<domain>`, each with a TLS secret of its own.
        egress: `internet`, or `none`: then nothing outside is reached.
    """

    repo_full_name: str
    branch: str
    commit_sha: str
    image: str
    bundle: Bundle | None = None
    alias_hosts: tuple[str, ...] = ()
    egress: str = "internet"


def render(spec: Spec, release: Release, settings: Settings) -> tuple[Manifest, Manifest, Manifest]:
    """Deployment, Service and Ingress of `release`.

    Raises:
        Permanent: `unsupported_entrypoint` or `unsupported_feature` (see `spec.check_supported`).
    """
    check_supported(spec)
    context = {
        **_identity(spec, release, settings),
        **_workload(spec, release, settings),
        **_traffic(spec, release, settings),
    }
    deployment, service, ingress = (templates.manifest(name, context) for name in _TEMPLATES)
    return deployment, service, ingress


def checksum(manifests: Sequence[Manifest]) -> str:
    """A stable hash of rendered objects: equal for equal content, whatever the order of keys."""
    return digest_of(list(manifests))


def public_path(spec: Spec) -> str:
    """The path to check at the public URL: `runtime.path`.

    Where that is left out, an explicit health path stands for it: an app whose root answers 404 is well.
    """
    runtime = spec.body.runtime
    return runtime.path if "path" in runtime.model_fields_set else runtime.healthcheck.path


def health_path(spec: Spec) -> str:
    """The path of the probes; left out, it is the root that the app itself sees."""
    runtime = spec.body.runtime
    if "path" in runtime.healthcheck.model_fields_set or _strips(spec):
        return runtime.healthcheck.path
    return runtime.prefix or "/"


def label_value(text: str) -> str:
    """`text` as a valid label value; a hash keeps it unique wherever it had to be changed."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "-", text).strip("-._")
    if cleaned == text:
        return names.fit(text)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{cleaned[:52].rstrip('-._')}-{digest}".lstrip("-")


# ------------------------------------------------------------------------ what templates get


def _identity(spec: Spec, release: Release, settings: Settings) -> dict[str, Any]:
    labels = {
        "app": spec.slug,
        "x1-preview": "true",
        "x1-component": "preview-app",
        "app.kubernetes.io/name": spec.slug,
        "app.kubernetes.io/component": "preview-app",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        f"{PREFIX}platform-id": label_value(settings.platform_id),
    }
    annotations = {
        f"{PREFIX}platform-id": settings.platform_id,
        f"{PREFIX}repo": release.repo_full_name,
        f"{PREFIX}branch": release.branch,
        f"{PREFIX}commit-sha": release.commit_sha,
    }
    if release.egress == "none":
        annotations[EGRESS] = release.egress
    return {"slug": spec.slug, "namespace": settings.preview_namespace, "labels": labels, "annotations": annotations}


def _workload(spec: Spec, release: Release, settings: Settings) -> dict[str, Any]:
    # What stands on the pod template rolls pods when it changes: the commit, and secrets that changed.
    pod_annotations = {f"{PREFIX}commit-sha": release.commit_sha}
    if release.bundle is not None:
        pod_annotations[f"{PREFIX}secrets-checksum"] = release.bundle.checksum
    return {
        "image": release.image,
        "port": spec.body.runtime.port,
        "pod_annotations": pod_annotations,
        "progress_deadline": math.ceil(settings.rollout_timeout),
        "run_as_non_root": settings.pod_security == "restricted",
        "read_only_root": settings.read_only_root,
        "env": _env(spec, release.bundle, settings),
        "resources": _resources(spec),
        "probes": _probes(spec),
        "volumes": _volumes(spec),
    }


def _traffic(spec: Spec, release: Release, settings: Settings) -> dict[str, Any]:
    slug, runtime = spec.slug, spec.body.runtime
    host = names.host(slug, settings.preview_domain)
    aliases = [alias for alias in dict.fromkeys(release.alias_hosts) if alias != host]
    hosts = [{"name": host, "tls_secret": settings.tls_secret_name}]
    hosts += [{"name": alias, "tls_secret": names.alias_tls_secret(slug, alias)} for alias in aliases]
    return {
        "ingress_class": settings.ingress_class,
        "hosts": hosts,
        "path": runtime.prefix or "/",
        "app_protocol": "kubernetes.io/h2c" if runtime.protocol == "http2" else "http",
        "ingress_annotations": {
            **_identity(spec, release, settings)["annotations"],
            **_traffic_annotations(spec, settings, has_aliases=bool(aliases)),
        },
    }


def _traffic_annotations(spec: Spec, settings: Settings, *, has_aliases: bool) -> dict[str, str]:
    """What an Ingress has no fields for, in words of our own: each platform translates them to its ingress."""
    annotations: dict[str, str] = {f"{PREFIX}backend-protocol": spec.body.runtime.protocol}
    if headers := spec.body.ingress.additional_headers:
        annotations[f"{PREFIX}response-headers"] = json.dumps(headers, sort_keys=True, ensure_ascii=False)
    if _strips(spec):
        annotations[f"{PREFIX}strip-path"] = spec.body.runtime.prefix
    if has_aliases and settings.alias_cluster_issuer:
        # Not cert-manager's own annotation: it would issue for every TLS entry, and so replace the wildcard.
        annotations[f"{PREFIX}alias-cluster-issuer"] = settings.alias_cluster_issuer
    return annotations


def _env(spec: Spec, bundle: Bundle | None, settings: Settings) -> list[dict[str, Any]]:
    """The environment in the spec's order, then what only the request brings."""
    keys = bundle.keys if bundle else ()
    extra = {key.removeprefix(EXTRA_ENV_KEY): key for key in sorted(keys) if key.startswith(EXTRA_ENV_KEY)}
    variables = []
    for entry in spec.body.env:
        key = extra.pop(entry.name, None) or (entry.secret if entry.secret in keys else None)
        source = _reference(bundle, key) if key else {"value": literal_env(_value(entry, spec, settings))}
        variables.append({"name": entry.name, **source})
    variables += [{"name": name, **_reference(bundle, key)} for name, key in extra.items()]
    return variables


def literal_env(value: str) -> str:
    """`value` as a Kubernetes env value that means just that: it expands `$(NAME)`, and reads `$$` as `$`."""
    return value.replace("$", "$$")


def env_value(literal: str) -> str:
    """What a value written by `literal_env` means, for a platform that does not expand."""
    return literal.replace("$$", "$")


def _reference(bundle: Bundle | None, key: str) -> dict[str, Any]:
    assert bundle is not None
    return {"valueFrom": {"secretKeyRef": {"name": bundle.name, "key": key}}}


def _value(entry: EnvVar, spec: Spec, settings: Settings) -> str:
    if entry.from_ == SELF_URL:
        return names.url(spec.slug, settings.preview_domain, settings.public_port)
    if entry.from_ == SHARE_BASE_URL:
        return settings.share_base_url
    # A secret that nobody sent is an empty value (the platform's behaviour); admit warned or refused.
    return entry.value or ""


def _resources(spec: Spec) -> dict[str, dict[str, str]]:
    resources = spec.body.resources
    cpu, memory, disk = resources.effective("cpu"), resources.effective("memory"), resources.ephemeral_storage
    return {
        "requests": {"cpu": cpu[0], "memory": memory[0], "ephemeral-storage": disk},
        "limits": {"cpu": cpu[1], "memory": memory[1], "ephemeral-storage": disk},
    }


def _volumes(spec: Spec) -> list[dict[str, Any]]:
    volumes = []
    for volume in spec.body.volumes:
        medium = {"medium": "Memory"} if volume.kind == "tmpfs" else {}
        limit = {"sizeLimit": volume.size_limit} if volume.size_limit else {}
        volumes.append({"name": volume.name, "mount_path": volume.mount_path, "empty_dir": {**medium, **limit}})
    return volumes


def _probes(spec: Spec) -> dict[str, dict[str, Any]]:
    """Readiness and liveness; a startup probe each second takes the place of a delay that the file leaves out."""
    health = spec.body.runtime.healthcheck
    each = {
        **_probe_handler(spec.body.runtime, health_path(spec)),
        "timeoutSeconds": health.timeout_seconds,
        "failureThreshold": health.failure_threshold,
    }
    readiness = {**each, "periodSeconds": health.period_seconds}
    liveness = {**each, "periodSeconds": 3 * health.period_seconds}
    if health.delay_given:
        readiness["initialDelaySeconds"] = health.initial_delay_seconds
        liveness["initialDelaySeconds"] = 2 * health.initial_delay_seconds
        return {"readinessProbe": readiness, "livenessProbe": liveness}
    startup = {**each, "periodSeconds": 1, "failureThreshold": _startup_seconds(health)}
    return {"startupProbe": startup, "readinessProbe": readiness, "livenessProbe": liveness}


def _startup_seconds(health: Healthcheck) -> int:
    """How long an app may take to its first answer: as long as liveness with the default delay would let it."""
    patience = 2 * health.initial_delay_seconds + 3 * health.period_seconds * health.failure_threshold
    return min(patience, _MAX_STARTUP_SECONDS)


def _probe_handler(runtime: Runtime, path: str) -> dict[str, Any]:
    # A kubelet asks in HTTP/1.1 only; an app that speaks nothing but cleartext HTTP/2 would never be healthy.
    if runtime.protocol == "http2":
        return {"tcpSocket": {"port": runtime.port}}
    return {"httpGet": {"path": path, "port": runtime.port, "scheme": "HTTP"}}


def _strips(spec: Spec) -> bool:
    return bool(spec.body.runtime.prefix) and spec.body.ingress.strip_path
