"""What is asked of the API server: verbs on objects, watches and logs; plain dicts in and out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any
from urllib.parse import quote

import aiohttp

from provider.platforms.kubernetes import answers
from provider.platforms.kubernetes.refusals import Refused, refused, unreachable
from provider.platforms.kubernetes.resources import Resource, Where
from provider.platforms.kubernetes.transport import JSON, MANAGER, TIMEOUT, Transport
from provider.settings import Settings

PAGE, LISTS_AT_ONCE = 250, 3
"""Objects in an answer, and answers at once: each is a megabyte of text, ten when it is read; little of it is kept."""
MOST_PAGES = 400
WATCH_SECONDS = 80
"""Less than the silence after which a watch is dead, for nothing else is sure to come in that time: a watch gets no
bookmark while its kind changes nowhere in the cluster, and one of events never gets any (seen)."""

Object = answers.Object
METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class Deletion(Enum):
    """What became of a request to delete an object."""

    DONE = auto()
    NO_MORE = auto()
    CHANGED = auto()  # it is another object than the one meant, or has another version


class Api:
    """Calls, each bounded in time.

    Raises of every call: `Refused` for what the caller has to judge (400 to 422 but 429; not `get` and `delete`), else
    Temporary: `platform_unreachable`.
    """

    def __init__(self, *, transport: Transport, namespaces: Mapping[Where, str]) -> None:
        self._transport = transport
        self._namespaces = namespaces
        self._lists = asyncio.Semaphore(LISTS_AT_ONCE)

    @classmethod
    async def connect(cls, settings: Settings) -> Api:
        """To the cluster of the settings; raises as `Transport.connect`."""
        namespaces = {Where.PREVIEWS: settings.preview_namespace, Where.BUILDS: settings.build_namespace}
        return cls(transport=await Transport.connect(settings), namespaces=namespaces)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    def namespace(self, resource: Resource) -> str:
        """The namespace that the resource is in."""
        return self._namespaces[resource.where]

    # ------------------------------------------------------------------ objects

    async def get(self, resource: Resource, name: str) -> Object | None:
        """The object, or None if there is none. Raises no `Refused`: nobody can do better than to report it."""
        try:
            return answers.whole(await self._ask("get", "GET", resource, name))
        except Refused as error:
            if error.code == 404:
                return None
            raise refused(error, f"{resource.kind.lower()}/{name}") from error

    async def pages(
        self, resource: Resource, *, metadata_only: bool = False
    ) -> AsyncGenerator[tuple[list[Object], str], None]:
        """Every object that is ours, some at a time, each time with the version to watch from."""
        query = {"labelSelector": resource.selector, "limit": str(PAGE)}
        accept = METADATA_ONLY.format("List") if metadata_only else None
        async with self._lists:
            for _ in range(MOST_PAGES):
                page = answers.page(await self._ask("list", "GET", resource, query=query, accept=accept))
                yield page.items, page.version
                if not page.more:
                    return
                if page.more == query.get("continue"):
                    break
                query["continue"] = page.more
        raise unreachable(f"a list of {resource.plural} without end")

    async def create(self, resource: Resource, body: Object) -> Object:
        """Make an object that must not exist yet."""
        return answers.whole(await self._ask("create", "POST", resource, body=body, query={"fieldManager": MANAGER}))

    async def update(self, resource: Resource, body: Object) -> Object:
        """Replace an object, which must still have the body's resourceVersion."""
        name = body["metadata"]["name"]
        query = {"fieldManager": MANAGER}
        return answers.whole(await self._ask("update", "PUT", resource, name, body=body, query=query))

    async def apply(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply as our field manager; ours win over others'. Unknown fields are refused."""
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        name = body["metadata"]["name"]
        content = "application/apply-patch+yaml"
        answer = await self._ask("patch", "PATCH", resource, name, body=body, query=query, content=content)
        return answer if dry_run else answers.whole(answer)  # what is not kept has no version

    async def edit(self, resource: Resource, name: str, operations: list[Object]) -> Object:
        """JSON patch."""
        query, content = {"fieldManager": MANAGER}, "application/json-patch+json"
        return answers.whole(
            await self._ask("patch", "PATCH", resource, name, body=operations, query=query, content=content)
        )

    async def delete(
        self, resource: Resource, name: str, *, uid: str | None = None, version: str | None = None
    ) -> Deletion:
        """Delete an object, and in the background what it owns.

        With `uid` or `version` only that very object is deleted, at that very version. Raises no `Refused`, as `get`.
        """
        conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            await self._ask("delete", "DELETE", resource, name, body={**body, "preconditions": conditions})
        except Refused as error:
            if error.code == 404:
                return Deletion.NO_MORE
            if error.code == 409 and conditions:
                return Deletion.CHANGED
            raise refused(error, f"{resource.kind.lower()}/{name}") from error
        return Deletion.DONE

    async def may(self, resource: Resource, verb: str) -> bool:
        """Whether the API server would let us."""
        plural, _, subresource = resource.plural.partition("/")
        attributes = {
            "namespace": self.namespace(resource), "verb": verb, "group": resource.group, "resource": plural,
            "subresource": subresource,
        }  # fmt: skip
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._transport.ask("POST", path, body={**kind, "spec": {"resourceAttributes": attributes}})
        return answers.field(answer, "status", "allowed") is True

    async def version(self) -> str:
        """The API server's version."""
        return str(answers.field(await self._transport.ask("GET", "/version"), "gitVersion"))[:100]

    # ------------------------------------------------------------------ streams

    async def watch(
        self, resource: Resource, version: str, *, metadata_only: bool = False
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Changes since `version` as (type, object), until the server ends the watch.

        Raises:
            Expired: the version is too old.
        """
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS), "labelSelector": resource.selector,
        }  # fmt: skip
        accept = METADATA_ONLY.format("") if metadata_only else None
        path = self._path("watch", resource, "")
        async with self._transport.stream(path, query, accept, begins=TIMEOUT) as content:
            async for line in content:  # of 4 MiB at most, by the client's own buffers
                yield answers.change(line)

    @asynccontextmanager
    async def log(
        self, resource: Resource, pod: str, *, follow: bool = False, previous: bool = False, tail: int | None = None,
        since: datetime | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:  # fmt: skip
        """The log of a pod's container, as a stream of lines."""
        query = {"container": resource.container, "follow": json.dumps(follow), "previous": json.dumps(previous)}
        if tail is not None:
            query["tailLines"] = str(tail)
        if since is not None:
            query["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = self._path("get", resource, "").removesuffix("/log") + f"/{quote(pod)}/log"
        async with self._transport.stream(path, query, "*/*", silence=None if follow else TIMEOUT) as content:
            yield content

    # ----------------------------------------------------------------- internal

    async def _ask(
        self,
        verb: str,
        method: str,
        resource: Resource,
        name: str = "",
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content: str = JSON,
        accept: str | None = None,
    ) -> Object:
        path = self._path(verb, resource, name)
        return await self._transport.ask(method, path, query=query, body=body, content=content, accept=accept)

    def _path(self, verb: str, resource: Resource, name: str) -> str:
        assert verb in resource.verbs, f"{verb} {resource.plural} is not in the table of resources"
        path = f"{resource.root}/namespaces/{quote(self.namespace(resource))}/{resource.plural}"
        return f"{path}/{quote(name)}" if name else path
