"""`manifests/` as kubectl builds it: `.ci/kubectl` says which one that is, and where it comes from."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[2] / "manifests"
KUBECTL = Path(sys.executable).with_name("kubectl")
FIRST = ("Namespace", "ServiceAccount", "Role")
BASES = ("base", *sorted(f"overlays/{path.parent.name}" for path in FOLDER.glob("overlays/*/kustomization.yaml")))


@cache
def _text(name: str) -> str:
    done = subprocess.run([KUBECTL, "kustomize", FOLDER / name], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:  # what is out of date is told there
        raise ValueError(f"manifests/{name}: {done.stderr}")
    return done.stdout


def built(name: str) -> list[Object]:
    """Every object of `base` or `overlays/…`, in an order in which it can be made."""
    found = [body for body in yaml.safe_load_all(_text(name)) if body]
    return sorted(found, key=lambda body: FIRST.index(body["kind"]) if body["kind"] in FIRST else len(FIRST))


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The object of that kind and name."""
    (found,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found
