"""What controllers ask of pods, and how they make them from a template."""

from __future__ import annotations

import secrets
from typing import Any

from tests.cluster.standin.controllers.base import controller_reference, is_going
from tests.cluster.standin.controllers.conditions import is_true
from tests.cluster.standin.values import clone

Object = dict[str, Any]
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes random names of: nothing that could become a word."""


def suffix(length: int = 5) -> str:
    """The random end of a generated name."""
    return "".join(secrets.choice(SUFFIX_ALPHABET) for _ in range(length))


def from_template(template: Object, owner: Object, name: str, labels: dict[str, str] | None = None) -> Object:
    """A pod that `owner` controls, ready to be created."""
    metadata = clone(template.get("metadata", {}))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": {**metadata.get("labels", {}), **(labels or {})},
            "annotations": metadata.get("annotations", {}),
            "ownerReferences": [controller_reference(owner)],
        },
        "spec": clone(template["spec"]),
    }


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded or Failed."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def is_over(pod: Object) -> bool:
    """Whether it has ended for good."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Whether it counts as a replica."""
    return not is_over(pod) and not is_going(pod)


def is_ready(pod: Object) -> bool:
    """Whether it counts as ready."""
    return is_true(pod, "Ready")
