"""From a build plan to the Kaniko Job that does it. Pure.

How Kaniko reads its flags and its context was seen on a real one; see the comments.
"""

from __future__ import annotations

import math
from datetime import datetime
from urllib.parse import urlsplit

from provider import names, render, templates
from provider.errors import Code, Permanent, Whose
from provider.platforms.base import BuildPlan
from provider.platforms.kubernetes.api import Object
from provider.platforms.kubernetes.resources import BUILD_LOGS
from provider.settings import Settings
from provider.spec.quantities import amount

INPUTS = render.PREFIX + "build-inputs"
DEPLOY_ID = render.PREFIX + "deploy-id"
GENERATION = render.PREFIX + "generation"
PLATFORM = render.PREFIX + "platform-id"
SLUG = render.PREFIX + "slug"
CONTAINER = BUILD_LOGS.container
CLONE = "/kaniko/buildcontext"
"""Where Kaniko clones a git context to."""
RETRIES = 3
REQUESTS = {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "1Gi"}
"""What a build asks of its node, where its limits are not below that."""


def job(plan: BuildPlan, settings: Settings, created: datetime, *, private: bool) -> Object:
    """The Job.

    Args:
        plan: what is built.
        settings: the builder's image, limits and place.
        created: for the image's label.
        private: whether a Secret `names.clone_secret(job)` holds credentials.

    Raises:
        Permanent: `kaniko_create_failed`, where GIT_BASE_URL is nothing that a cluster can clone from.
    """
    labels = _labels(plan, settings)
    annotations = {
        INPUTS: plan.build_inputs,
        DEPLOY_ID: plan.deploy_id,
        GENERATION: str(plan.generation),
        PLATFORM: settings.platform_id,
    }
    return templates.manifest(
        "build-job",
        {
            "name": plan.job_name,
            "namespace": settings.build_namespace,
            "labels": labels,
            "annotations": annotations,
            "pod_labels": {**labels, "sidecar.istio.io/inject": "false"},
            "pod_annotations": {**annotations, "linkerd.io/inject": "disabled"},
            "deadline_seconds": math.ceil(plan.timeout_seconds),
            "keep_seconds": settings.build_keep_seconds,
            "service_account": settings.build_service_account,
            "runtime_class": settings.build_runtime_class,
            "node_selector": settings.build_node_selector,
            "tolerations": list(settings.build_tolerations),
            "registry_secret": settings.build_registry_secret,
            "image": settings.kaniko_image,
            "arguments": [render.literal_env(argument) for argument in arguments(plan, settings, created)],
            "env": _env(plan, settings, private=private),
            "resources": _resources(settings),
        },
    )


def clone_secret(plan: BuildPlan, settings: Settings, username: str, token: str) -> Object:
    """The Secret with the clone's credentials; it goes with its Job, which becomes its owner."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.clone_secret(plan.job_name),
            "namespace": settings.build_namespace,
            "labels": {**_labels(plan, settings), "app.kubernetes.io/managed-by": render.MANAGED_BY},
        },
        "type": "Opaque",
        "stringData": {"username": username, "token": token},
    }


def arguments(plan: BuildPlan, settings: Settings, created: datetime) -> list[str]:
    """Kaniko's command line. Nothing in it is a secret, and each value is one argument: no value can add a flag."""
    flags = [
        f"--context={_context(plan, settings)}",
        # Kaniko tries the path as it is before it joins it to the context's folder.
        f"--dockerfile={CLONE}/{plan.dockerfile.removeprefix('./')}",
        f"--destination={plan.image}",
        # Trusted only with exit code 0: it is written before the push.
        "--digest-file=/dev/termination-log",
        "--log-format=text",  # the default has colours
        "--cache=true",
        f"--cache-repo={names.layer_cache(settings.registry_address, plan.repo_full_name)}",
        "--compressed-caching=false",  # else its memory peaks there
        f"--push-retry={RETRIES}",
        f"--image-fs-extract-retry={RETRIES}",
        f"--image-download-retry={RETRIES}",
        # The check is never repeated, and a cluster's network may know a pod some seconds after it began (seen).
        "--skip-push-permission-check",
    ]
    sub_path = plan.context.strip("/").removeprefix("./")
    if sub_path not in {"", "."}:
        flags.append(f"--context-sub-path={sub_path}")
    if settings.registry_insecure:
        flags += ["--insecure", f"--insecure-registry={settings.registry_address}"]
    flags += [f"--build-arg={name}={value}" for name, value in plan.args.items()]
    flags += [f"--label={name}={value}" for name, value in _image_labels(plan, settings, created).items()]
    flags += [f"--registry-map={value}" for value in settings.registry_maps]
    flags += [f"--registry-mirror={value}" for value in settings.registry_mirrors]
    return [*flags, *settings.kaniko_flags]


def _context(plan: BuildPlan, settings: Settings) -> str:
    """`git://host/repo.git#refs/heads/branch#sha`: a bare sha is refused by servers that do not advertise it.

    Kaniko splits it at each `#`, which a branch's name may have. Without a branch it clones them all.
    """
    base = urlsplit(settings.git_base_url)
    if base.scheme not in {"http", "https"}:
        raise Permanent(
            Code.KANIKO_CREATE_FAILED,
            f"A cluster can't clone from GIT_BASE_URL {settings.git_base_url}.",
            reason="NotConfigured",
            hint="Set GIT_BASE_URL to the http or https address of the git host.",
            whose=Whose.PLATFORM,
            retryable=False,
        )
    path = f"{base.path.rstrip('/')}/{plan.repo_full_name}.git"
    branch = "" if "#" in plan.branch else f"refs/heads/{plan.branch}"
    return f"git://{base.netloc}{path}#{branch}#{plan.commit_sha}"


def _env(plan: BuildPlan, settings: Settings, *, private: bool) -> list[Object]:
    env: list[Object] = []
    if settings.git_base_url.startswith("http://"):
        env.append({"name": "GIT_PULL_METHOD", "value": "http"})
    if private:
        secret = names.clone_secret(plan.job_name)
        env += [
            {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
            for variable, key in (("GIT_USERNAME", "username"), ("GIT_PASSWORD", "token"))
        ]
    return env


def _resources(settings: Settings) -> Object:
    limits = {"cpu": settings.build_cpu, "memory": settings.build_memory, "ephemeral-storage": settings.build_disk}
    # Requests would default to the limits, and a build then find no node that is free enough.
    requests = {name: min(REQUESTS[name], limit, key=lambda one: amount(one) or 0) for name, limit in limits.items()}
    return {"limits": limits, "requests": requests}


def _labels(plan: BuildPlan, settings: Settings) -> dict[str, str]:
    return {
        "app": "x1agent",
        "component": "preview-build",
        "preview-slug": names.fit(f"{plan.slug}-{plan.commit_sha[:8]}"),
        SLUG: plan.slug,
        PLATFORM: render.label_value(settings.platform_id),
    }


def _image_labels(plan: BuildPlan, settings: Settings, created: datetime) -> dict[str, str]:
    """The OCI image annotations that name source, revision and time (opencontainers image-spec), and whose it is."""
    return {
        "org.opencontainers.image.source": f"{settings.git_base_url}/{plan.repo_full_name}",
        "org.opencontainers.image.revision": plan.commit_sha,
        "org.opencontainers.image.created": created.isoformat(timespec="seconds"),
        PLATFORM: settings.platform_id,
    }
