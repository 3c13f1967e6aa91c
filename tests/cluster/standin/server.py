"""The HTTPS server: TLS, tokens, faults and permissions around reads, writes, watches and logs."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import trustme
import yaml
from aiohttp import web

from tests.cluster.standin import discovery, pod_logs, reads
from tests.cluster.standin.answers import done_answer, json_answer, refusal, too_many
from tests.cluster.standin.auth import ANONYMOUS, MASTERS, Authorizer, Tokens, User, refused_path, review
from tests.cluster.standin.bodies import parse as parse_body
from tests.cluster.standin.bodies import typed
from tests.cluster.standin.faults import Fault, Faults
from tests.cluster.standin.metrics import Call, Metrics, Permission
from tests.cluster.standin.pod_logs import PodLogs
from tests.cluster.standin.requests import Asked, flag, parse
from tests.cluster.standin.resources import GROUPS, Resource
from tests.cluster.standin.status import ApiError, method_not_allowed, no_such_path
from tests.cluster.standin.store import Store
from tests.cluster.standin.watches import OpenWatches, Watch
from tests.cluster.standin.writes import Done, Writer

HOST = "127.0.0.1"
BOOKMARKS = 60.0  # seconds between two bookmarks of a quiet watch
LARGEST = 3 * 1024 * 1024  # bytes of a body

Act = Callable[[], Awaitable[web.StreamResponse]]
Around = Callable[[User, Asked, Act], Awaitable[web.StreamResponse]]
"""Stands around a request that is allowed: it does the act, or not, and may do something before and after."""


async def directly(_: User, __: Asked, act: Act) -> web.StreamResponse:
    """Just the act."""
    return await act()


class Clock(Protocol):
    """The cluster's time."""

    def now(self) -> datetime: ...


class ApiServer:
    """Serves a store on a free loopback port; `faults`, `metrics` and `around` are for the tests."""

    def __init__(self, *, store: Store, logs: PodLogs, clock: Clock) -> None:
        store.now = clock.now
        self.store = store
        self.faults = Faults()
        self.metrics = Metrics()
        self.around: Around = directly
        self.failures: list[
            Exception
        ] = []  # mistakes of the stand-in itself: a test's fixture asserts that it is empty
        self.authorizer = Authorizer(store.storage)
        self.bookmark_interval = BOOKMARKS
        self._logs = logs
        self._tokens = Tokens()
        self._watches = OpenWatches()
        self._read_logs: list[tuple[asyncio.Transport, str]] = []
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes().decode()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST, "localhost").configure_cert(self._tls)
        self._port = 0
        self._handlers: web.Server | None = None
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port}"

    async def start(self) -> None:
        """Listens; after a stop on the same port again."""
        handlers = web.Server(self._handle, handler_cancellation=True, access_log=None)

        def accept() -> asyncio.BaseProtocol:
            self.metrics.connections += 1
            return handlers()

        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(accept, HOST, self._port, ssl=self._tls)
        self._handlers = handlers
        self._port = int(self._listening.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes the port and cuts every connection; what is stored stays."""
        if self._listening is None or self._handlers is None:
            return
        self._listening.close()
        self.cut_connections()
        await self._handlers.shutdown(0.1)
        self._listening = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def cut_connections(self) -> None:
        """Breaks every open connection, watches included."""
        if self._handlers is not None:
            for connection in self._handlers.connections:
                if connection.transport is not None and not connection.transport.is_closing():
                    connection.transport.abort()

    def cut_watches(self, resource: str = "*") -> None:
        """Breaks the connections of the open watches of a resource (a pattern of plurals)."""
        self._watches.cut(resource)

    def expire_watches(self, resource: str = "*") -> None:
        """Forgets the history, as compaction does, and ends the open watches of a resource with 410."""
        self.store.storage.forget()
        self._watches.expire(resource)

    def token(self, user: str, groups: Sequence[str] = ()) -> str:
        """A bearer token for `admin` or `system:serviceaccount:NAMESPACE:NAME`."""
        return self._tokens.issue(user, groups)

    def kubeconfig(self, folder: Path, user: str, namespace: str = "default") -> Path:
        """A kubeconfig file with a token of the user's."""
        authority = base64.b64encode(self.ca_pem.encode()).decode()
        context = {"cluster": "standin", "user": user, "namespace": namespace}
        cluster = {"server": self.url, "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "standin",
            "clusters": [{"name": "standin", "cluster": cluster}],
            "contexts": [{"name": "standin", "context": context}],
            "users": [{"name": user, "user": {"token": self.token(user)}}],
        }
        path = folder / f"{user.replace(':', '-')}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            user = self._tokens.user(request.headers.get("Authorization"))
            asked = parse(request.method, request.path, request.query, request.headers.get("Accept", ""))
            if asked is None:
                return self._elsewhere(request, user)
            return await self._timed(request, user, asked)
        except ApiError as refused:
            return refusal(refused)
        except ConnectionError:
            raise
        except Exception as failure:  # the stand-in's own mistake: answered as the real server would, kept for the test
            self.failures.append(failure)
            return refusal(ApiError(500, "InternalError", f"Internal error occurred: {failure!r}"))

    def _elsewhere(self, request: web.BaseRequest, user: User) -> web.Response:
        """Paths that belong to no resource: discovery and health."""
        found = discovery.answer(request.path)
        public = request.path in (*discovery.HEALTH, "/version")
        if user == ANONYMOUS and not public:
            raise refused_path(user, request.method.lower(), request.path)
        if found is None and MASTERS not in user.groups:
            raise refused_path(user, request.method.lower(), request.path)
        if found is None:
            return web.Response(status=404, text="404 page not found\n")
        return web.Response(text=found) if isinstance(found, str) else json_answer(found)

    @property
    def read_logs(self) -> list[str]:
        """The pods whose logs somebody reads, and has not let go of."""
        self._read_logs = [(transport, pod) for transport, pod in self._read_logs if not transport.is_closing()]
        return [pod for _, pod in self._read_logs]

    async def _timed(self, request: web.BaseRequest, user: User, asked: Asked) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            return await self._asked(request, user, asked)
        finally:
            if asked.verb != "watch" and asked.subresource != "log":
                self.metrics.answering[user.name] += time.perf_counter() - began

    async def _asked(self, request: web.BaseRequest, user: User, asked: Asked) -> web.StreamResponse:
        wanted = asked.attributes
        self.metrics.requests[Call(asked.verb, asked.plural, asked.subresource, user.name)] += 1
        striking = self.faults.striking(asked.verb, wanted.whole, asked.namespace, asked.name, user.name)
        broken = await self._strike(request, striking)
        if broken is not None:
            return broken
        permission = Permission(user.name, asked.verb, asked.group, wanted.whole, asked.namespace)
        try:
            self.authorizer.check(user, wanted)
        except ApiError:
            self.metrics.refused[permission] += 1
            raise
        self.metrics.used.add(permission)
        if asked.resource is None or not _served(asked):
            if asked.group in GROUPS:
                raise no_such_path()
            return web.Response(status=404, text="404 page not found\n")
        if not _allowed(asked, asked.resource):
            raise method_not_allowed()
        act = partial(self._answer, request, user, asked, asked.resource, striking)
        answer = await self.around(user, asked, act)
        if asked.verb == "patch" and answer.status == 201:
            self.metrics.used.add(permission._replace(verb="create"))
        return self._cut(request) if any(fault.action == "cut_after" for fault in striking) else answer

    async def _answer(
        self, request: web.BaseRequest, user: User, asked: Asked, resource: Resource, striking: list[Fault]
    ) -> web.StreamResponse:
        if asked.subresource == "log":
            pod = self.store.find(resource, asked.namespace, asked.name)
            if request.transport is not None and flag(request.query, "follow"):
                self._read_logs.append((request.transport, asked.name))
            return await pod_logs.serve(request, self.store, self._logs, pod)
        if asked.verb == "watch":
            return await self._watch(request, user, asked, resource, striking)
        if asked.verb == "get":
            return json_answer(reads.get(self.store, resource, asked))
        if asked.verb == "list":
            return json_answer(reads.list_page(self.store, resource, asked))
        body = await _body(request)
        if resource.create_only:
            obj, warnings = typed(resource, parse_body(body, request.content_type), "Warn")
            return done_answer(Done(review(self.authorizer, user, obj), 201, warnings))
        writer = Writer(self.store, self.authorizer, user, resource, asked, request, body)
        act = {
            "create": writer.create,
            "update": writer.update,
            "patch": writer.patch,
            "delete": writer.delete,
            "deletecollection": writer.delete_collection,
        }[asked.verb]
        return done_answer(act())

    async def _watch(
        self, request: web.BaseRequest, user: User, asked: Asked, resource: Resource, striking: list[Fault]
    ) -> web.StreamResponse:
        watch = Watch(self.store.storage, resource, asked, bookmark_interval=self.bookmark_interval)
        if any(fault.action == "expire" for fault in striking):
            watch.expire()
        self.metrics.watch_opened()

        def slowing() -> list[Fault]:
            return self.faults.slowing(asked.plural, asked.namespace, asked.name, user.name)

        try:
            return await self._watches.serve(watch, asked.plural, request, slowing)
        finally:
            self.metrics.watch_closed()

    async def _strike(self, request: web.BaseRequest, striking: list[Fault]) -> web.StreamResponse | None:
        """Lets the faults happen that come before the request is done; the answer, if one takes its place."""
        for fault in striking:
            if fault.action == "delay":
                await fault.delayed()
            elif fault.action == "hold":
                await fault.hold()
            elif fault.action == "too_many":
                return too_many(int(fault.seconds))
            elif fault.action == "error":
                message = "Internal error occurred: the stand-in was told to fail"
                return refusal(ApiError(fault.code, "InternalError", message))
            elif fault.action == "cut_before":
                return self._cut(request)
        return None

    def _cut(self, request: web.BaseRequest) -> web.Response:
        """Breaks the request's connection; the response goes nowhere."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


async def _body(request: web.BaseRequest) -> bytes:
    body = await request.content.read()  # `request.read` has a smaller limit of its own
    if len(body) > LARGEST:
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LARGEST}")
    return body


def _served(asked: Asked) -> bool:
    """Whether the resource has this subresource."""
    resource = asked.resource
    if resource is None:
        return False
    if asked.subresource == "status":
        return resource.status and asked.verb in ("get", "update", "patch")
    if asked.subresource == "log":
        return resource.kind == "Pod" and asked.verb == "get"
    return not asked.subresource


def _allowed(asked: Asked, resource: Resource) -> bool:
    """Whether the method fits the path: collections are made in, objects are changed."""
    if asked.subresource:
        return True
    nowhere = resource.namespaced and not asked.namespace
    if asked.name:
        return asked.verb in ("get", "watch", "update", "patch", "delete")
    return asked.verb in resource.verbs and asked.verb in (
        "list",
        "watch",
        *(() if nowhere else ("create", "deletecollection")),
    )
