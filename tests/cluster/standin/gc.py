"""The garbage collector: what has no living owner goes, foreground deletions wait for their dependents."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.cluster.standin.deletion import FOREGROUND, ORPHAN, Deletion
from tests.cluster.standin.resources import BY_KIND, Resource
from tests.cluster.standin.status import ApiError
from tests.cluster.standin.storage import Change
from tests.cluster.standin.values import Object, clone, items

if TYPE_CHECKING:
    from tests.cluster.standin.store import Store

Place = tuple[Resource, str | None, str]
DELAY = 0.02  # seconds between a commit and its consequences: shorter than on a real cluster, but visible
MANAGER = "kube-controller-manager"


class GarbageCollector:
    """Follows the store's commits. Within an event loop it acts a moment later, without one at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dependents: dict[str, set[Place]] = defaultdict(set)  # by the owner's uid
        store.storage.listen(self._committed)

    def _committed(self, change: Change) -> None:
        place = (change.resource, change.obj["metadata"].get("namespace"), change.obj["metadata"]["name"])
        for owner in items(change.before, "metadata", "ownerReferences"):
            self._dependents[owner["uid"]].discard(place)
        if change.event == "DELETED":
            self.later(lambda: self._owner_gone(change.obj))
            return
        owners = items(change.obj, "metadata", "ownerReferences")
        for owner in owners:
            self._dependents[owner["uid"]].add(place)
        if owners != items(change.before, "metadata", "ownerReferences"):
            self.later(lambda: self._collect(place))
        if "deletionTimestamp" in change.obj["metadata"]:
            self.later(lambda: self._finalize(place))

    def later(self, act: Callable[[], None], delay: float = DELAY) -> None:
        """Act after a moment, or at once where no event loop runs."""
        try:
            asyncio.get_running_loop().call_later(delay, act)
        except RuntimeError:
            act()

    def _owner_gone(self, owner: Object) -> None:
        for place in tuple(self._dependents.get(owner["metadata"]["uid"], ())):
            self._collect(place)
        for reference in items(owner, "metadata", "ownerReferences"):
            for place in self._owner_places(reference, owner["metadata"].get("namespace")):
                self._finalize(place)

    def _collect(self, place: Place) -> None:
        """Deletes an object whose owners are all gone; forgets single owners that are."""
        obj = self._store.storage.get(place[0], place[1:])
        owners = items(obj, "metadata", "ownerReferences")
        if obj is None or not owners:
            return
        alive = [owner for owner in owners if self._owner_places(owner, place[1])]
        if not alive:
            if "deletionTimestamp" not in obj["metadata"]:
                self._delete(place, obj, "Background")
        elif len(alive) < len(owners):
            self._write(obj, ownerReferences=alive)

    def _owner_places(self, reference: Object, namespace: str | None) -> list[Place]:
        """Where an owner lives: in the dependent's namespace, or in none. Anywhere else it does not count."""
        resource = BY_KIND.get(reference["kind"])
        if resource is None or resource.api_version != reference["apiVersion"]:
            return []
        place: Place = (resource, namespace if resource.namespaced else None, reference["name"])
        found = self._store.storage.get(resource, place[1:])
        return [place] if found is not None and found["metadata"]["uid"] == reference["uid"] else []

    def _finalize(self, place: Place) -> None:
        """Goes on with a deletion that waits for its dependents."""
        obj = self._store.storage.get(place[0], place[1:])
        finalizers = items(obj, "metadata", "finalizers")
        if obj is None or "deletionTimestamp" not in obj["metadata"]:
            return
        dependents = self._living_dependents(obj)
        if ORPHAN in finalizers:
            for _, dependent in dependents:
                self._disown(dependent, obj["metadata"]["uid"])
            self._write(obj, finalizers=[name for name in finalizers if name != ORPHAN])
        elif FOREGROUND in finalizers:
            self._foreground(obj, dependents)

    def _foreground(self, obj: Object, dependents: list[tuple[Place, Object]]) -> None:
        uid, blocking = obj["metadata"]["uid"], False
        for place, dependent in dependents:
            reference = next(each for each in dependent["metadata"]["ownerReferences"] if each["uid"] == uid)
            blocking = blocking or bool(reference.get("blockOwnerDeletion"))
            if "deletionTimestamp" not in dependent["metadata"]:
                self._delete(place, dependent, "Foreground" if self._living_dependents(dependent) else "Background")
        if not blocking:
            kept = [name for name in obj["metadata"]["finalizers"] if name != FOREGROUND]
            self._write(obj, finalizers=kept)

    def _living_dependents(self, owner: Object) -> list[tuple[Place, Object]]:
        places = tuple(self._dependents.get(owner["metadata"]["uid"], ()))
        found = [(place, self._store.storage.get(place[0], place[1:])) for place in places]
        return [(place, obj) for place, obj in found if obj is not None]

    def _disown(self, dependent: Object, uid: str) -> None:
        kept = [owner for owner in dependent["metadata"]["ownerReferences"] if owner["uid"] != uid]
        self._write(dependent, ownerReferences=kept)

    def _delete(self, place: Place, obj: Object, propagation: str) -> None:
        wanted = Deletion(propagation=propagation, uid=obj["metadata"]["uid"])
        self._store.remove(*place, wanted)

    def _write(self, obj: Object, **changed: list[object]) -> None:
        new = clone(obj)
        new["metadata"].update(changed)
        try:
            self._store.update(new, manager=MANAGER)
        except ApiError as refused:
            if refused.code not in (404, 409):
                raise
