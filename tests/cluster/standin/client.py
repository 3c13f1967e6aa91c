"""How the stand-in's own tests ask it: over HTTPS, with httpx, as an administrator or as anybody else."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.cluster.standin.faults import Faults
from tests.cluster.standin.pod_logs import Line
from tests.cluster.standin.resources import BY_KIND
from tests.cluster.standin.server import ApiServer
from tests.cluster.standin.store import Store
from tests.cluster.standin.values import Object

APPLY = "application/apply-patch+yaml"


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class KeptLogs:
    """Logs by (namespace, pod, container); `ended` lets those who follow go."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], list[Line]] = {}
        self.previous: dict[tuple[str, str, str], list[Line]] = {}
        self.changed = asyncio.Condition()
        self.ended = False

    def lines(self, namespace: str, pod: str, container: str, *, previous: bool) -> list[Line]:
        return (self.previous if previous else self.kept)[namespace, pod, container]

    async def follow(self, namespace: str, pod: str, container: str) -> AsyncIterator[Line]:
        written, index = self.kept[namespace, pod, container], 0
        while True:
            while index < len(written):
                yield written[index]
                index += 1
            async with self.changed:
                if self.ended:
                    return
                await self.changed.wait()

    async def end(self) -> None:
        async with self.changed:
            self.ended = True
            self.changed.notify_all()


class Api:
    """A running server and a client of it."""

    def __init__(self, server: ApiServer, logs: KeptLogs, client: httpx.AsyncClient) -> None:
        self.server = server
        self.store = server.store
        self.logs = logs
        self.client = client
        self._admin = server.token("admin")

    @property
    def faults(self) -> Faults:
        return self.server.faults

    @staticmethod
    def path(kind: str, name: str = "", *, namespace: str | None = "default", sub: str = "") -> str:
        resource = BY_KIND[kind]
        base = f"/apis/{resource.group}/v1" if resource.group else "/api/v1"
        place = f"/namespaces/{namespace}" if resource.namespaced and namespace else ""
        parts = [base + place, resource.plural, name, sub]
        return "/".join(part for part in parts if part)

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """One request; `token`, `content_type` and `accept` beside the query's parameters."""
        headers = {"Authorization": f"Bearer {options.pop('token', self._admin)}"}
        headers["Accept"] = options.pop("accept", "application/json")
        if body is not None:
            headers["Content-Type"] = options.pop("content_type", "application/json")
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.request(method, path, content=content, params=options, headers=headers)

    async def get(self, kind: str, name: str = "", **options: Any) -> httpx.Response:
        return await self.ask("GET", self.path(kind, name, namespace=options.pop("namespace", "default")), **options)

    async def create(self, obj: Object, **options: Any) -> httpx.Response:
        namespace = obj["metadata"].get("namespace", "default")
        return await self.ask("POST", self.path(obj["kind"], namespace=namespace), obj, **options)

    async def replace(self, obj: Object, sub: str = "", **options: Any) -> httpx.Response:
        return await self.ask("PUT", self.path(obj["kind"], obj["metadata"]["name"], sub=sub), obj, **options)

    async def apply(self, obj: Object, manager: str = "me", **options: Any) -> httpx.Response:
        meta = obj["metadata"]
        path = self.path(obj["kind"], meta["name"], namespace=meta.get("namespace", "default"))
        return await self.ask("PATCH", path, obj, content_type=APPLY, fieldManager=manager, **options)

    async def delete(self, kind: str, name: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.ask("DELETE", self.path(kind, name), body, **options)

    async def events(self, kind: str, count: int | None = None, **options: Any) -> list[Object]:
        """The events of a watch: the first `count`, or all until it ends."""
        found: list[Object] = []
        async for event in self.watch(kind, **options):
            found.append(event)
            if len(found) == count:
                break
        return found

    async def watch(self, kind: str, **options: Any) -> AsyncIterator[Object]:
        headers = {"Authorization": f"Bearer {self._admin}", "Accept": options.pop("accept", "application/json")}
        path = self.path(kind, namespace=options.pop("namespace", "default"))
        options["watch"] = "1"
        async with self.client.stream("GET", path, params=options, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                yield json.loads(line)

    async def gone(self, kind: str, name: str, namespace: str = "default") -> None:
        """Returns as soon as an object is not there (any more)."""
        done = asyncio.Event()

        def changed(event: str, obj: Object) -> None:
            if event == "DELETED" and (obj["kind"], obj["metadata"]["name"]) == (kind, name):
                done.set()

        stop = self.store.subscribe(changed)
        try:
            resource = BY_KIND[kind]
            if self.store.storage.get(resource, (namespace if resource.namespaced else None, name)) is not None:
                async with asyncio.timeout(5):
                    await done.wait()
        finally:
            stop()


@asynccontextmanager
async def running_api() -> AsyncIterator[Api]:
    """A server of the test's own, with nothing in it but what every cluster has."""
    logs = KeptLogs()
    server = ApiServer(store=Store(), logs=logs, clock=SystemClock())
    await server.start()
    context = ssl.create_default_context(cadata=server.ca_pem)
    try:
        async with httpx.AsyncClient(base_url=server.url, verify=context, timeout=10) as client:
            yield Api(server, logs, client)
    finally:
        await server.stop()
    assert not server.failures, server.failures


# Objects that the tests start from, each as small as it can be.


def config_map(name: str = "settings", **more: Any) -> Object:
    metadata = {"name": name, **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more}


def pod_spec(**more: Any) -> Object:
    return {"containers": [{"name": "app", "image": "registry.test/app:1"}], **more}


def pod(name: str = "app", **spec: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(**spec)}


def deployment(name: str = "app", **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec()}
    whole = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": whole}


def job(name: str = "build", **spec: Any) -> Object:
    whole = {"template": {"spec": pod_spec(restartPolicy="Never")}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": whole}


def service(name: str = "app", **spec: Any) -> Object:
    whole = {"selector": {"app": name}, "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def owner(obj: Object, **more: Any) -> Object:
    """An ownerReference to a stored object."""
    meta = obj["metadata"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"], **more}
