"""Installs objects into a store, as `kubectl apply` by an administrator would."""

from __future__ import annotations

from collections.abc import Iterable

from tests.cluster.standin.status import ApiError
from tests.cluster.standin.store import Apply, Store
from tests.cluster.standin.values import Object


def load_manifests(store: Store, objects: Iterable[Object]) -> list[Object]:
    """Applies them in this order; ApiError, with the object's name, for what the server refuses."""
    made = []
    for obj in objects:
        try:
            made.append(store.apply(obj, Apply("kubectl", force=True))[0])
        except ApiError as refused:
            refused.add_note(f"{obj['kind']} {obj['metadata']['name']}")
            raise
    return made
