"""What a container's security context keeps a program from doing."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
BUILD_CAPABILITIES = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"})
"""Seen: with these five, and no others, Kaniko built and pushed."""


def refuses_root(pod: Object, container: Object) -> str:
    """Why an image that runs as root is not started; empty if it is."""
    outer, inner = pod["spec"].get("securityContext", {}), container.get("securityContext", {})
    user = inner.get("runAsUser", outer.get("runAsUser"))
    if not inner.get("runAsNonRoot", outer.get("runAsNonRoot")) or user:
        return ""
    metadata = pod["metadata"]
    who = f'pod: "{metadata["name"]}_{metadata["namespace"]}({metadata["uid"]})", container: {container["name"]}'
    if user == 0:
        return f"container's runAsUser breaks non-root policy ({who})"
    return f"container has runAsNonRoot and image will run as root ({who})"


def lacking_for_builds(container: Object) -> str:
    """What a builder needs and may not do; empty if it may do everything."""
    context = container.get("securityContext", {})
    if context.get("readOnlyRootFilesystem"):
        return "mkdir /kaniko/0: read-only file system"
    capabilities = context.get("capabilities", {})
    if "ALL" in capabilities.get("drop", []) and not set(capabilities.get("add", [])) >= BUILD_CAPABILITIES:
        return "chown /: operation not permitted"
    return ""
