"""The objects of one kind, kept current by one list and one watch, and who waits for changes of them."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import structlog

from provider.errors import Temporary
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.refusals import Expired, Refused
from provider.platforms.kubernetes.resources import Resource

T = TypeVar("T")
log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
LOOK_SECONDS = 1.0
"""How often something is judged anew although nothing changed: graces end by time alone."""

SHARED_CHARS = 64
"""Longer texts are hardly ever the same in two places."""

KeyOf = Callable[[Object], str]
Restarted = Callable[[str], None]
FieldsOf = Callable[[list[Object]], str]
"""What is kept of an object's `managedFields`."""


class Changes:
    """Wakes who waits for a key."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, key: str) -> None:
        """Something with that key changed."""
        for event in self._waiting.get(key, ()):
            event.set()

    async def until(self, key: str, judge: Callable[[], T | None]) -> T:
        """The first thing but None that `judge` returns; it is asked at once, and after each change."""
        with self._listening(key) as changed:
            while True:
                changed.clear()
                if (verdict := judge()) is not None:
                    return verdict
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    continue

    @contextmanager
    def _listening(self, key: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]


class Cache:
    """The objects of one resource, as a list and a watch show them; without what nobody here reads.

    There are ten and more of a preview, so what is kept of each is what a thousand previews cost.

    Attributes:
        fields_of: makes of `managedFields` what is kept of them; None: nothing is.
        told: called with the key of whatever changes, beside those who wait for it.

    Args:
        keep: what is kept of an object beside its kind and metadata: fields of it, or of those, as `spec.nodeName`.
        metadata_only: nothing else is asked for.
        restarted: called with the resource's kind each time that its watch broke and begins anew.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        key_of: KeyOf,
        changes: Changes,
        *,
        keep: Sequence[str] = (),
        metadata_only: bool = False,
        restarted: Restarted | None = None,
    ) -> None:
        self.fields_of: FieldsOf | None = None
        self.told: Callable[[str], None] | None = None
        self._fields: dict[str, str] = {}
        self._applied: dict[str, str] = {}
        self._api = api
        self.resource = resource
        self._key_of = key_of
        self._keep = keep
        self._changes = changes
        self._metadata_only = metadata_only
        self._restarted = restarted or (lambda _: None)
        self._objects: dict[str, Object] = {}
        self._forgotten = set[str]()
        self._first_seen: dict[str, float] = {}
        self._by_key: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        self._version: str | None = None
        self._seen = ""
        self.synced = asyncio.Event()

    def get(self, name: str) -> Object | None:
        """The object of that name, as far as it is known."""
        return self._objects.get(name)

    def of(self, key: str) -> list[Object]:
        """The objects with that key."""
        return list(self._by_key.get(key, {}).values())

    def all(self) -> list[Object]:
        """Every object."""
        return list(self._objects.values())

    def age(self, found: Object) -> float:
        """Seconds since this process first saw the object: the cluster's clock need not be ours."""
        return time.monotonic() - self._first_seen.get(found["metadata"]["uid"], time.monotonic())

    def put(self, found: Object) -> None:
        """What an answer or the watch showed, unless the other was faster."""
        present = self._objects.get(found["metadata"]["name"])
        if found["metadata"]["uid"] in self._forgotten:
            return
        if present is None or _version(present) < _version(found):
            self._put(found)

    def forget(self, name: str) -> None:
        """We deleted it: the watch will say so, perhaps late, and before that what was before."""
        if (gone := self._objects.get(name)) is not None:
            self._forgotten.add(gone["metadata"]["uid"])
            self._remove(name)

    def applied(self, found: Object) -> Object:
        """Take in what the answer to an apply of ours showed; returns what is kept of it."""
        if self.fields_of is not None:
            fields = self.fields_of(found["metadata"].get("managedFields") or [])
            self._applied[found["metadata"]["name"]] = sys.intern(fields)
        self.put(found)
        return self._kept(found)

    def fields(self, name: str) -> str:
        """What `fields_of` made of the object's `managedFields`."""
        return self._fields.get(name, "")

    def applied_fields(self, name: str) -> str | None:
        """The same, as it was right after our own last apply; None if this process made none."""
        return self._applied.get(name)

    async def run(self) -> None:
        """List, watch, and do so for ever: a bug in here must not leave everybody waiting either."""
        pause = FIRST_PAUSE
        while True:
            began, version, seen = time.monotonic(), self._version, self._seen
            try:
                if self._version is None:
                    await self._relist()
                await self._follow()
                if time.monotonic() - began > pause:
                    pause = FIRST_PAUSE
                    continue  # the server ended it, as it does now and then
                problem = "the server ended it at once"
            except Expired:
                self._version, problem = None, "expired as soon as it was listed"
                if version is not None:
                    if self.resource.kind != "Event":  # those get no bookmarks: to be quiet for minutes is enough
                        self._restarted(self.resource.kind)
                    continue
            except (Temporary, Refused) as error:
                problem = str(error)
            except Exception:
                log.exception("watch.bug", kind=self.resource.kind)
                self._version, problem = None, "a bug"
            if self._seen != seen or time.monotonic() - began > pause:
                pause = FIRST_PAUSE  # it was well meanwhile
            self._restarted(self.resource.kind)
            log.warning("watch.broken", kind=self.resource.kind, error=problem, pause=pause)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads reconnects
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _relist(self) -> None:
        listed, version = set[str](), ""
        async with aclosing(self._api.pages(self.resource, metadata_only=self._metadata_only)) as pages:
            async for items, version in pages:  # noqa: B007 - the last one's is used
                for item in items:
                    listed.add(item["metadata"]["name"])
                    self.put(item)
        for found in self.all():
            if found["metadata"]["name"] not in listed and _version(found) <= int(version):
                self._remove(found["metadata"]["name"])
        self._forgotten.clear()
        self._version = self._seen = version
        self.synced.set()

    async def _follow(self) -> None:
        assert self._version is not None, "listed before"
        watching = self._api.watch(self.resource, self._version, metadata_only=self._metadata_only)
        async with aclosing(watching) as watch:
            async for kind, found in watch:
                self._version = self._seen = found["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self._deleted(found)
                elif kind != "BOOKMARK":
                    self.put(found)

    def _put(self, found: Object) -> None:
        managed = found["metadata"].get("managedFields")
        found = self._kept(found)
        name, key = found["metadata"]["name"], self._key_of(found)
        replaced = self._objects.get(name)
        if replaced is not None and replaced["metadata"]["uid"] != found["metadata"]["uid"]:
            self._remove(name)
        self._objects[name] = found
        if self.fields_of is not None:
            self._fields[name] = sys.intern(self.fields_of(managed or []))  # the same for most objects of a kind
        self._first_seen.setdefault(found["metadata"]["uid"], time.monotonic())
        if key:
            self._by_key[key][name] = found
            self._tell(key)

    def _kept(self, found: Object) -> Object:
        """What is kept of an object, in a copy that shares its texts with others."""
        kept: Object = {"kind": found.get("kind", self.resource.kind)}  # a list's items do not say it
        kept["metadata"] = {key: value for key, value in found["metadata"].items() if key != "managedFields"}
        for path in self._keep:
            name, _, inner = path.partition(".")
            if name in found:
                kept[name] = found[name] if not inner else {inner: found[name].get(inner)}
        return dict(_sharing(kept))

    def _tell(self, key: str) -> None:
        self._changes.tell(key)
        if self.told is not None:
            self.told(key)

    def _deleted(self, gone: Object) -> None:
        """Its successor of the same name may be known already, from the answer that made it."""
        self._forgotten.discard(gone["metadata"]["uid"])
        present = self._objects.get(gone["metadata"]["name"])
        if present is not None and _version(present) <= _version(gone):
            self._remove(gone["metadata"]["name"])

    def _remove(self, name: str) -> None:
        gone = self._objects.pop(name, None)
        if gone is None:
            return
        self._first_seen.pop(gone["metadata"]["uid"], None)
        self._fields.pop(name, None)
        self._applied.pop(name, None)
        key = self._key_of(gone)
        if not key:
            return
        self._by_key[key].pop(name, None)
        if not self._by_key[key]:
            del self._by_key[key]
        self._tell(key)


def _sharing(value: Any) -> Any:
    """A copy of JSON-able data, of which equal keys and short texts are the same ones everywhere.

    Each change that a watch tells comes with texts of its own: two thirds of what it takes in memory.
    """
    if isinstance(value, dict):
        return {sys.intern(key): _sharing(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_sharing(inner) for inner in value]
    return sys.intern(value) if isinstance(value, str) and len(value) <= SHARED_CHARS else value


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])
