"""What controllers are made of: a cache of the store, a queue of keys with delays, and a count of what is under way.

Controllers are synchronous, as the store is: one reconciliation sees one state of the cluster. What makes them
behave like real ones is when they run: each after its own delay, in the cluster's time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.cluster.standin.clock import Clock
from tests.cluster.standin.controllers.events import EventRecorder
from tests.cluster.standin.store import ApiError, Store

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
MANAGER = "kube-controller-manager"
NOT_FOUND, CONFLICT = 404, 409


class Activity:
    """Counts what is under way, so that a test can wait until nothing is."""

    def __init__(self) -> None:
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """One more thing is under way."""
        self._busy += 1
        self._idle.clear()

    def end(self) -> None:
        """It is done."""
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Something is under way while this is open."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._busy:
            await self._idle.wait()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._busy


class Cache:
    """The store's objects as its last commits left them, found without copying. Never change what it returns."""

    def __init__(self, store: Store) -> None:
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._owned: dict[tuple[str, str], dict[Key, Object]] = defaultdict(dict)
        self._labelled: dict[tuple[str, str, str, str], dict[Key, Object]] = defaultdict(dict)
        self._followers: Sequence[Callable[[str, Object], None]] = ()
        self.close = store.storage.listen(lambda change: self._committed(change.event, change.obj))

    def follow(self, followers: Sequence[Callable[[str, Object], None]]) -> None:
        """Tell these of each commit, after it stands in the cache."""
        self._followers = followers

    def _committed(self, event: str, obj: Object) -> None:
        self._take(event, obj)
        for follower in self._followers:
            follower(event, obj)

    def _take(self, event: str, obj: Object) -> None:
        """Take over one commit."""
        kind, key = obj["kind"], key_of(obj)
        known = self._objects[kind].pop(key, None)
        if known is not None:
            self._forget(kind, key, known)
        if event == "DELETED":
            return
        self._objects[kind][key] = obj
        for owner in owners_of(obj):
            self._owned[kind, owner][key] = obj
        for label in obj["metadata"].get("labels", {}).items():
            self._labelled[kind, key[0], *label][key] = obj

    def _forget(self, kind: str, key: Key, known: Object) -> None:
        for owner in owners_of(known):
            self._owned[kind, owner].pop(key, None)
        for label in known["metadata"].get("labels", {}).items():
            self._labelled[kind, key[0], *label].pop(key, None)

    def get(self, kind: str, key: Key) -> Object | None:
        """One object, if it is there."""
        return self._objects[kind].get(key)

    def all(self, kind: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind, oldest first."""
        return [obj for (space, _), obj in self._objects[kind].items() if namespace in (None, space)]

    def owned(self, kind: str, uid: str) -> list[Object]:
        """The objects whose controller has that uid."""
        return list(self._owned.get((kind, uid), {}).values())

    def labelled(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """The objects of a namespace that have all these labels; none where there are no labels to have."""
        found = [self._labelled.get((kind, namespace, *label), {}) for label in labels.items()]
        fewest = min(found, key=len, default={})
        return [obj for key, obj in fewest.items() if all(key in one for one in found)]


@dataclass(frozen=True)
class Tools:
    """What every controller needs; `failures` are bugs of the stand-in, told when the world ends."""

    store: Store
    clock: Clock
    cache: Cache
    activity: Activity
    events: EventRecorder
    failures: list[BaseException] = field(default_factory=list)


class Controller(ABC):
    """Brings objects of one kind to what their specs say.

    Attributes:
        watches: the kinds whose changes concern it.
        delay: seconds from such a change to its reaction.
    """

    watches: ClassVar[frozenset[str]]
    delay: ClassVar[float] = 0.02

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._queued: dict[Key, asyncio.TimerHandle] = {}
        self._deadlines: dict[Key, asyncio.TimerHandle] = {}
        self._stopped = False

    @abstractmethod
    def keys(self, obj: Object) -> Iterable[Key]:
        """Which of its objects a change of `obj` concerns."""

    @abstractmethod
    def reconcile(self, key: Key) -> None:
        """Do what is to be done for one object, which may be gone."""

    def notice(self, event: str, obj: Object) -> None:
        """React to a commit of the store, later."""
        if obj["kind"] in self.watches:
            for key in self.keys(obj):
                self.enqueue(key, self.delay_after(event, obj))

    def delay_after(self, event: str, obj: Object) -> float:
        """Seconds from this commit to the reaction."""
        return self.delay

    def enqueue(self, key: Key, after: float) -> None:
        """Reconcile in `after` seconds; what is queued already stays where it is."""
        if key in self._queued or self._stopped:
            return
        self.tools.activity.begin()
        self._queued[key] = self.tools.clock.call_later(after, lambda: self._turn(key))

    def revisit(self, key: Key, after: float) -> None:
        """Look again in `after` seconds, if nothing happens before; a world that waits for this counts as settled."""
        if (earlier := self._deadlines.pop(key, None)) is not None:
            earlier.cancel()
        if not self._stopped:
            self._deadlines[key] = self.tools.clock.call_later(after, lambda: self.enqueue(key, 0.0))

    def waits(self, key: Key) -> bool:
        """Whether a look at that time is arranged already."""
        timer = self._deadlines.get(key)
        return timer is not None and not timer.cancelled() and timer.when() > asyncio.get_running_loop().time()

    def stop(self) -> None:
        """React to nothing any more."""
        self._stopped = True
        for timer in (*self._queued.values(), *self._deadlines.values()):
            timer.cancel()

    def _turn(self, key: Key) -> None:
        del self._queued[key]
        try:
            self.reconcile(key)
        except ApiError as error:
            if error.code in (NOT_FOUND, CONFLICT):
                self.enqueue(key, self.delay)
            else:
                self.tools.failures.append(error)
        except Exception as error:
            self.tools.failures.append(error)
        finally:
            self.tools.activity.end()


def key_of(obj: Object) -> Key:
    """Namespace and name; an object without namespace has an empty one."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def owners_of(obj: Object) -> list[str]:
    """The uid of the object's controller, if it has one."""
    references = obj["metadata"].get("ownerReferences", [])
    return [reference["uid"] for reference in references if reference.get("controller")]


def owner_key(obj: Object, kind: str) -> list[Key]:
    """The key of the object's controller, if that is of this kind."""
    references = obj["metadata"].get("ownerReferences", [])
    names = [ref["name"] for ref in references if ref.get("controller") and ref["kind"] == kind]
    return [(obj["metadata"]["namespace"], name) for name in names]


def is_going(obj: Object) -> bool:
    """Whether the object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def controller_reference(owner: Object) -> Object:
    """The ownerReference that makes `owner` the controller of what it creates."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
