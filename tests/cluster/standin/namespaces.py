"""What every namespace gets on a real cluster, and how it goes: its controller, as small as it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.standin.deletion import Deletion
from tests.cluster.standin.resources import BY_KIND
from tests.cluster.standin.storage import Change
from tests.cluster.standin.values import Object, clone

if TYPE_CHECKING:
    from tests.cluster.standin.store import Store

DELAY = 0.3  # seconds that a deleted namespace is there at least: on a real cluster it is seconds
MANAGER = "kube-controller-manager"


class Namespaces:
    """Makes the default service account and the cluster's CA; empties a namespace that is being deleted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.storage.listen(self._committed)

    def _committed(self, change: Change) -> None:
        meta = change.obj["metadata"]
        if change.resource.kind == "Namespace":
            if change.event == "ADDED":
                self._furnish(str(meta["name"]))
            elif "deletionTimestamp" in meta and change.event != "DELETED":
                self._store.gc.later(lambda: self._empty(str(meta["name"])), DELAY)
        elif change.event == "DELETED" and meta.get("namespace"):
            self._finish(str(meta["namespace"]))

    def _furnish(self, namespace: str) -> None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        authority = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt"},
            "data": {"ca.crt": "the cluster's own authority\n"},
        }
        for obj in (account, authority):
            made: Object = clone(obj)
            made["metadata"]["namespace"] = namespace
            self._store.create(made, manager=MANAGER)

    def _empty(self, namespace: str) -> None:
        if self._store.storage.get(BY_KIND["Namespace"], (None, namespace)) is None:
            return
        for resource in BY_KIND.values():
            if resource.namespaced:
                for obj in self._store.storage.scan(resource, namespace):
                    if "deletionTimestamp" not in obj["metadata"]:
                        self._store.remove(resource, namespace, obj["metadata"]["name"], Deletion("Background"))
        self._finish(namespace)

    def _finish(self, namespace: str) -> None:
        """Lets a namespace go once nothing is left in it."""
        resource = BY_KIND["Namespace"]
        found = self._store.storage.get(resource, (None, namespace))
        if found is None or "deletionTimestamp" not in found["metadata"]:
            return
        if any(self._store.storage.scan(each, namespace) for each in BY_KIND.values() if each.namespaced):
            return
        self._store.storage.remove(resource, (None, namespace))
