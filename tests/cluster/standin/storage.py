"""Where objects are kept: one growing version, a bounded history for watches, callbacks after each commit. No rules."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from tests.cluster.standin.resources import Resource
from tests.cluster.standin.values import Object

Key = tuple[str | None, str]  # namespace, name
HISTORY = 10_000
BEGINNING = 1_000  # as on a cluster that has been up for a while: its first versions are forgotten


@dataclass(frozen=True)
class Change:
    """One commit. `before` is what stood there until then; objects in it are never changed afterwards."""

    version: int
    event: str  # ADDED, MODIFIED or DELETED
    resource: Resource
    obj: Object
    before: Object | None

    @cached_property
    def body(self) -> bytes:
        """The object as JSON, written once for all who watch."""
        return json.dumps(self.obj, separators=(",", ":")).encode()


Listener = Callable[[Change], None]


class Storage:
    """Objects by resource, namespace and name."""

    def __init__(self, history: int = HISTORY) -> None:
        self.version = BEGINNING
        self.floor = BEGINNING  # versions below this one can't be watched or listed any more
        self._objects: dict[str, dict[Key, Object]] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._listeners: list[Listener] = []

    def get(self, resource: Resource, key: Key) -> Object | None:
        """The stored object itself: not to be changed."""
        return self._objects.get(resource.kind, {}).get(key)

    def scan(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """The stored objects of a namespace (or of all), in the order of a list."""
        found = self._objects.get(resource.kind, {})
        keys = sorted((key for key in found if namespace in (None, key[0])), key=lambda key: (key[0] or "", key[1]))
        return [found[key] for key in keys]

    def put(self, resource: Resource, key: Key, obj: Object) -> Object:
        """Commits an object under a new version."""
        kept = self._objects.setdefault(resource.kind, {})
        before = kept.get(key)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        kept[key] = obj
        self._tell(Change(self.version, "MODIFIED" if before else "ADDED", resource, obj, before))
        return obj

    def remove(self, resource: Resource, key: Key) -> Object:
        """Commits a deletion; the last state gets the deletion's version."""
        before = self._objects[resource.kind].pop(key)
        self.version += 1
        metadata = {**before["metadata"], "resourceVersion": str(self.version)}
        last = {**before, "metadata": metadata}
        self._tell(Change(self.version, "DELETED", resource, last, before))
        return last

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) == self._history.maxlen:
            self.floor = max(self.floor, self._history[0].version)
        for listener in tuple(self._listeners):
            listener(change)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls back after each commit, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def changes(self, after: int) -> Iterator[Change]:
        """What was committed after a version, oldest first."""
        newer = []
        for change in reversed(self._history):
            if change.version <= after:
                break
            newer.append(change)
        return reversed(newer)

    def forget(self) -> None:
        """Expires every version before the present one, as compaction does."""
        self._history.clear()
        self.floor = self.version

    def scan_at(self, resource: Resource, namespace: str | None, version: int) -> list[Object]:
        """What `scan` gave at an older version that is not below the floor."""
        found = dict(self._objects.get(resource.kind, {}))
        for change in reversed(self._history):
            if change.version <= version:
                break
            if change.resource is resource:
                key = (change.obj["metadata"].get("namespace"), change.obj["metadata"]["name"])
                if change.before is None:
                    found.pop(key, None)
                else:
                    found[key] = change.before
        keys = sorted((key for key in found if namespace in (None, key[0])), key=lambda key: (key[0] or "", key[1]))
        return [found[key] for key in keys]
