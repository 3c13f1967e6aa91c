"""What the cluster holds, kept current by one watch per kind, shared by everything that waits.

However many deploys are under way, the watches stay the same. Who waits for something says so by a key (a
preview's slug, a build's Job), judges what the caches hold, and is woken when anything with that key changes.
A watch survives everything: a cut connection goes on from its last version, an expired version lists again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

import structlog

from provider.errors import Temporary
from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.refusals import Expired, Refused, unreachable
from provider.platforms.kubernetes.resources import Resource

T = TypeVar("T")
log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
SYNC_SECONDS = 30.0
LOOK_SECONDS = 1.0
"""How often something is judged anew although nothing changed: graces end by time alone."""

KeyOf = Callable[[Object], str]


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
    """The objects of one resource, as a list and a watch show them; without what nobody here reads."""

    def __init__(
        self, api: Api, resource: Resource, key_of: KeyOf, changes: Changes, *, metadata_only: bool = False
    ) -> None:
        self._api = api
        self.resource = resource
        self._key_of = key_of
        self._changes = changes
        self._metadata_only = metadata_only
        self._objects: dict[str, Object] = {}
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
        if present is None or _version(present) < _version(found):
            self._put(found)

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
                    continue
            except (Temporary, Refused) as error:
                problem = str(error)
            except Exception:
                log.exception("watch.bug", kind=self.resource.kind)
                self._version, problem = None, "a bug"
            if self._seen != seen or time.monotonic() - began > pause:
                pause = FIRST_PAUSE  # it was well meanwhile
            log.warning("watch.broken", kind=self.resource.kind, error=problem, pause=pause)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads reconnects
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _relist(self) -> None:
        items, version = await self._api.list_all(self.resource, metadata_only=self._metadata_only)
        self._version = self._seen = version
        listed = {item["metadata"]["name"] for item in items}
        for found in self.all():
            if found["metadata"]["name"] not in listed and _version(found) <= int(version):
                self._remove(found["metadata"]["name"])
        for item in items:
            self.put(item)
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
        found["metadata"].pop("managedFields", None)
        found.setdefault("kind", self.resource.kind)  # a list's items do not say it
        name, key = found["metadata"]["name"], self._key_of(found)
        replaced = self._objects.get(name)
        if replaced is not None and replaced["metadata"]["uid"] != found["metadata"]["uid"]:
            self._remove(name)
        self._objects[name] = found
        self._first_seen.setdefault(found["metadata"]["uid"], time.monotonic())
        if key:
            self._by_key[key][name] = found
            self._changes.tell(key)

    def _deleted(self, gone: Object) -> None:
        """Its successor of the same name may be known already, from the answer that made it."""
        present = self._objects.get(gone["metadata"]["name"])
        if present is not None and _version(present) <= _version(gone):
            self._remove(gone["metadata"]["name"])

    def _remove(self, name: str) -> None:
        gone = self._objects.pop(name, None)
        if gone is None:
            return
        self._first_seen.pop(gone["metadata"]["uid"], None)
        key = self._key_of(gone)
        if not key:
            return
        self._by_key[key].pop(name, None)
        if not self._by_key[key]:
            del self._by_key[key]
        self._changes.tell(key)


class Watches:
    """The cache of every kind that is looked at."""

    def __init__(self, api: Api) -> None:
        self.changes = Changes()

        def cache(resource: Resource, key_of: KeyOf = slug_of, *, metadata_only: bool = False) -> Cache:
            return Cache(api, resource, key_of, self.changes, metadata_only=metadata_only)

        self.anchors = cache(resources.CONFIG_MAPS, name_of)
        self.secrets = cache(resources.SECRETS, metadata_only=True)
        self.services = cache(resources.SERVICES, name_of)
        self.deployments = cache(resources.DEPLOYMENTS, name_of)
        self.ingresses = cache(resources.INGRESSES, name_of)
        self.network_policies = cache(resources.NETWORK_POLICIES, name_of)
        self.replica_sets = cache(resources.REPLICA_SETS)
        self.pods = cache(resources.PODS)
        self.endpoints = cache(resources.ENDPOINT_SLICES, _service_of)
        self.events = cache(resources.EVENTS, _involved_uid)
        self.jobs = cache(resources.JOBS, _build_of_job)
        self.build_pods = cache(resources.BUILD_PODS, _build_of_pod)
        self.build_events = cache(resources.BUILD_EVENTS, _involved_uid)
        self._caches = tuple(value for value in vars(self).values() if isinstance(value, Cache))
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, resource: Resource) -> Cache:
        """The cache of that resource."""
        return next(cache for cache in self._caches if cache.resource is resource)

    async def start(self) -> None:
        """Begin to watch; returns when everything was listed once.

        Raises:
            Temporary: `platform_unreachable`, when that takes too long.
        """
        self._tasks = [asyncio.create_task(one.run(), name=f"watch {one.resource.plural}") for one in self._caches]
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                for cache in self._caches:
                    await cache.synced.wait()
        except TimeoutError:
            missing = [cache.resource.plural for cache in self._caches if not cache.synced.is_set()]
            raise unreachable(f"not listed within {SYNC_SECONDS:g} s: {', '.join(missing)}") from None

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def events_of(self, objects: Iterable[Object]) -> list[Object]:
        """The events about these objects, oldest first."""
        uids = [found["metadata"]["uid"] for found in objects]
        found = [event for uid in uids for event in (*self.events.of(uid), *self.build_events.of(uid))]
        return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))


def label(found: Object, name: str) -> str:
    """A label's value, "" where there is none."""
    return str((found["metadata"].get("labels") or {}).get(name, ""))


def annotation(found: Object, name: str) -> str:
    """An annotation's value, "" where there is none."""
    return str((found["metadata"].get("annotations") or {}).get(name, ""))


def job_key(name: str) -> str:
    """The key of a build Job and its pods; a slug has no slash."""
    return f"build/{name}"


def slug_of(found: Object) -> str:
    """The preview that an object belongs to (contract.md, "Names": `app=<slug>`)."""
    return label(found, "app")


def name_of(found: Object) -> str:
    """The slug in an object's name; what may follow it begins with a dot (`names.anchor`)."""
    return str(found["metadata"]["name"]).partition(".")[0]


def _service_of(found: Object) -> str:
    return label(found, "kubernetes.io/service-name")


def _involved_uid(found: Object) -> str:
    return str(found.get("involvedObject", {}).get("uid", ""))


def _build_of_job(found: Object) -> str:
    return job_key(found["metadata"]["name"])


def _build_of_pod(found: Object) -> str:
    return job_key(label(found, "batch.kubernetes.io/job-name") or label(found, "job-name"))


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])
