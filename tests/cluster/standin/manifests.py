"""Installs a kustomize base into a store: what `kubectl apply -k` would create, without any overlay feature."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cluster.standin.status import ApiError
from tests.cluster.standin.store import Apply, Store
from tests.cluster.standin.values import Object

KUSTOMIZATION = {"apiVersion", "kind", "resources"}
FIRST = ("Namespace", "ServiceAccount", "ClusterRole", "Role")


def read_manifests(folder: Path) -> list[Object]:
    """Every object that a base names, in the order in which it can be created; ValueError for what is no plain base."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if strange := set(kustomization) - KUSTOMIZATION:
        raise ValueError(f"{folder}: not understood in a base: {', '.join(sorted(strange))}")
    found: list[Object] = []
    for name in kustomization.get("resources", ()):
        path = folder / name
        if path.is_dir():
            found += read_manifests(path)
        else:
            found += [document for document in yaml.safe_load_all(path.read_text()) if document]
    return sorted(found, key=lambda obj: FIRST.index(obj["kind"]) if obj["kind"] in FIRST else len(FIRST))


def load_manifests(store: Store, folder: Path) -> list[Object]:
    """Applies a base as an administrator would; ApiError, with the object's name, for what the server refuses."""
    made = []
    for obj in read_manifests(folder):
        try:
            made.append(store.apply(obj, Apply("kubectl", force=True))[0])
        except ApiError as refused:
            refused.add_note(f"{obj['kind']} {obj['metadata']['name']} below {folder}")
            raise
    return made
