"""WATCH: changes as they are committed, with bookmarks, a timeout, and 410 for versions that are forgotten."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase

from aiohttp import web

from tests.cluster.standin.faults import Fault
from tests.cluster.standin.reads import check_version, matcher_for
from tests.cluster.standin.requests import Asked, flag, number, partial_view
from tests.cluster.standin.resources import Resource
from tests.cluster.standin.selectors import Matcher
from tests.cluster.standin.status import ApiError, expired
from tests.cluster.standin.storage import Change, Storage
from tests.cluster.standin.values import Object

SHORTEST, LONGEST = 1800, 3600  # seconds that a watch lasts if the request does not say
Slowing = Callable[[], list[Fault]]  # the faults that delay the next event
INITIAL_END = {"k8s.io/initial-events-end": "true"}


class Watch:
    """One open watch: collects what it is told of, and writes it as soon as it can."""

    def __init__(self, storage: Storage, resource: Resource, asked: Asked, *, bookmark_interval: float) -> None:
        self._storage = storage
        self._resource = resource
        self._asked = asked
        self._matches: Matcher = matcher_for(resource, asked)
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._bookmarks = flag(asked.query, "allowWatchBookmarks")
        self._interval = bookmark_interval
        self._since = 0
        self._changed = False
        self._stop: Callable[[], None] = lambda: None
        self._start()

    def _start(self) -> None:
        """Queues what happened since the wanted version, then listens; nothing can fall in between."""
        version = self._asked.query.get("resourceVersion", "")
        check_version(self._storage, self._asked)
        if flag(self._asked.query, "sendInitialEvents") or version in ("", "0"):
            self._initial()
        elif int(version) < self._storage.floor:
            self.end(_too_old(int(version), self._storage.floor))
            return
        else:
            self._since = int(version)
            for change in self._storage.changes(self._since):
                self._told(change)
        self._stop = self._storage.listen(self._told)

    def _initial(self) -> None:
        for obj in self._storage.scan(self._resource, self._asked.namespace or None):
            if self._matches(obj):
                self._queue("ADDED", self._view(obj))
        if flag(self._asked.query, "sendInitialEvents") and self._bookmarks:
            self._queue("BOOKMARK", self._bookmark(INITIAL_END))

    def _told(self, change: Change) -> None:
        if change.resource is not self._resource or self._ended or change.version <= self._since:
            return
        self._changed = True
        namespace = self._asked.namespace
        if namespace and namespace != _namespace(change):
            return
        was = change.before is not None and self._matches(change.before)
        now = change.event != "DELETED" and self._matches(change.obj)
        if now:
            event = "MODIFIED" if was else "ADDED"
            if self._asked.partial:
                self._queue(event, self._view(change.obj))
            else:
                self._push(event, change.body)
        elif was:
            self._queue("DELETED", self._view(_last(change)))

    def _view(self, obj: Object) -> Object:
        return partial_view(obj) if self._asked.partial else obj

    def _bookmark(self, annotations: Object | None = None) -> Object:
        metadata: Object = {"resourceVersion": str(self._storage.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        if self._asked.partial:
            return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}

    def _queue(self, event: str, obj: Object) -> None:
        self._push(event, json.dumps(obj, separators=(",", ":")).encode())

    def _push(self, event: str, body: bytes) -> None:
        if self._asked.of_list:
            return
        self._waiting.append(b'{"type":"%s","object":%s}\n' % (event.encode(), body))
        self._wake.set()

    def end(self, refused: ApiError | None = None) -> None:
        """Ends the watch after what is queued, with an ERROR event if there is a reason."""
        if refused is not None:
            self._queue("ERROR", refused.status)
        self._ended = True
        self._stop()
        self._wake.set()

    def expire(self) -> None:
        """Ends the watch as one whose version was compacted away."""
        if not self._ended:
            self.end(expired("The resourceVersion for the provided watch is too old."))

    async def serve(self, request: web.BaseRequest, slowing: Slowing) -> web.StreamResponse:
        """Writes until the timeout, the end, or the client's going."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        seconds = number(self._asked.query, "timeoutSeconds") or random.randint(SHORTEST, LONGEST)
        try:
            await response.prepare(request)
            async with asyncio.timeout(seconds):
                await self._write(response, slowing)
        except TimeoutError:
            if self._has_news and not self._ended:
                await response.write(self._bookmark_line())
        except ConnectionError:
            return response
        finally:
            self.end()
        return response

    @property
    def _has_news(self) -> bool:
        """Whether a bookmark may come: none says again where the watch began, and events are in no watch cache."""
        return self._bookmarks and self._changed and self._resource.plural != "events"

    def _bookmark_line(self) -> bytes:
        return b'{"type":"BOOKMARK","object":%s}\n' % json.dumps(self._bookmark(), separators=(",", ":")).encode()

    async def _write(self, response: web.StreamResponse, slowing: Slowing) -> None:
        while True:
            while self._waiting:
                slow = slowing()
                for fault in slow:
                    await fault.delayed()
                batch = [self._waiting[0]] if slow else list(self._waiting)
                for _ in batch:
                    self._waiting.popleft()
                await response.write(b"".join(batch))
            if self._ended:
                return
            self._wake.clear()
            await self._woken(response)

    async def _woken(self, response: web.StreamResponse) -> None:
        """Waits for the next event; a bookmark goes out when none comes for long."""
        try:
            async with asyncio.timeout(self._interval if self._has_news else None):
                await self._wake.wait()
        except TimeoutError:
            await response.write(self._bookmark_line())


class OpenWatches:
    """The watches that are open, with the requests that they answer."""

    def __init__(self) -> None:
        self._open: dict[Watch, tuple[str, web.BaseRequest]] = {}

    async def serve(
        self, watch: Watch, resource: str, request: web.BaseRequest, slowing: Slowing
    ) -> web.StreamResponse:
        self._open[watch] = (resource, request)
        try:
            return await watch.serve(request, slowing)
        finally:
            del self._open[watch]

    def expire(self, pattern: str) -> None:
        """Ends the watches of these resources with 410."""
        for watch, (resource, _) in tuple(self._open.items()):
            if fnmatchcase(resource, pattern):
                watch.expire()

    def cut(self, pattern: str) -> None:
        """Breaks the connections of the watches of these resources."""
        for resource, request in tuple(self._open.values()):
            if fnmatchcase(resource, pattern) and request.transport is not None:
                request.transport.abort()


def _namespace(change: Change) -> str:
    if change.resource.kind == "Namespace":
        return str(change.obj["metadata"]["name"])
    return str(change.obj["metadata"].get("namespace", ""))


def _last(change: Change) -> Object:
    """The object of a DELETED event: as it was selected last, with the change's version."""
    if change.event == "DELETED" or change.before is None:
        return change.obj
    metadata = {**change.before["metadata"], "resourceVersion": str(change.version)}
    return {**change.before, "metadata": metadata}


def _too_old(version: int, floor: int) -> ApiError:
    return expired(f"too old resource version: {version} ({floor})")
