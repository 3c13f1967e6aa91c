"""What a builder is told of its build, as JSON in its folder. All of it is known before the commit's files are."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provider.platforms.base import BuildPlan
from provider.platforms.container import machine, workload
from provider.settings import Settings


def told(plan: BuildPlan, settings: Settings, images: Path) -> dict[str, Any]:
    """The content of `plan.json`; `images` is where the engine keeps what it knows of each image."""
    return {
        "slug": plan.slug,
        "deploy_id": plan.deploy_id,
        "job_name": plan.job_name,
        "build_inputs": plan.build_inputs,
        "image": plan.image,
        "registry": settings.registry_address,
        "slug_label": workload.SLUG_LABEL,
        "image_folder": str(images),
        "context": plan.context,
        "args": plan.args,
        "labels": _labels(plan, settings),
        "deadline": time.time() + plan.timeout_seconds,
        "insecure": settings.registry_insecure,
        "memory": f"{int(workload.quantity(settings.build_memory))}b",
        "pids": settings.build_pids,
        "log_bytes": settings.build_log_bytes,
        "ulimits": machine.ulimits(),
        "runtime": machine.oci_runtime(),
        "netavark": machine.netavark(),
    }


def _labels(plan: BuildPlan, settings: Settings) -> dict[str, str]:
    """The OCI image annotations that name source, revision and time (opencontainers image-spec), and whose it is."""
    return {
        "org.opencontainers.image.source": f"{settings.git_base_url}/{plan.repo_full_name}",
        "org.opencontainers.image.revision": plan.commit_sha,
        "org.opencontainers.image.created": datetime.now(UTC).isoformat(timespec="seconds"),
        workload.SLUG_LABEL: plan.slug,
        workload.PLATFORM_LABEL: settings.platform_id,
    }
