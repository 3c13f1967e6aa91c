"""The one place that speaks to the API server: `kubernetes.aio` below, plain dicts above.

The client's configuration, authentication, TLS and connections are used; its typed models are not: what goes over
the wire is what was rendered, and what a watch brings is not made into thousands of model objects. The client
retries nothing here: errors become `Temporary` and the runner decides, within the phase's deadline.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from provider.errors import Code, Permanent, Whose
from provider.platforms.kubernetes import answers
from provider.platforms.kubernetes.refusals import Refused, refused, unreachable
from provider.platforms.kubernetes.resources import Resource, Where
from provider.settings import Settings

MANAGER = "x1-preview-provider"
TIMEOUT = 15.0
PAGE, LISTS_AT_ONCE = 250, 3
"""Objects in an answer, and answers at once: each is a megabyte of text, ten when it is read; little of it is kept."""
MOST_PAGES = 400
WATCH_SECONDS = 80
"""Less than `SILENCE_SECONDS`, for nothing else is sure to come in that time: a watch gets no bookmark while its kind
changes nowhere in the cluster, and one of events never gets any (seen)."""
SILENCE_SECONDS = 90.0
"""A watch that is quiet for longer is dead."""
MOST_BYTES = 32 << 20
"""Of one answer: a page of large objects has a tenth of that."""
CONNECTIONS = 1000
"""No limit that is met: each log that is followed keeps one, and what waited for a free one would be an outage."""

READ_BYTES = 32 * 1024
"""What is read of a TLS connection at once: two of its records. asyncio keeps a buffer of that size for each, of 256 kB
of its own accord; hundreds of logs that are followed are hundreds of connections over which next to nothing comes."""

Object = answers.Object
METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class Api:
    """Calls, each bounded in time.

    Raises of every call: `Refused` for what the caller has to judge (400 to 422 but 429; not `get` and `delete`), else
    Temporary: `platform_unreachable`.
    """

    def __init__(self, *, client: ApiClient, namespaces: Mapping[Where, str]) -> None:
        self._client = client
        self._namespaces = namespaces
        self._lists = asyncio.Semaphore(LISTS_AT_ONCE)

    @classmethod
    async def connect(cls, settings: Settings) -> Api:
        """By the in-cluster configuration where there is one, else by KUBECONFIG.

        Raises:
            Permanent: `platform_unreachable`, reason NotConfigured.
        """
        configuration = Configuration()
        try:
            if settings.kubernetes_service_host:
                load_incluster_config(client_configuration=configuration)
            else:
                kubeconfig = str(settings.kubeconfig) if settings.kubeconfig else None
                await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise Permanent(
                Code.PLATFORM_UNREACHABLE,
                "There is no configuration for a Kubernetes cluster.",
                reason="NotConfigured",
                hint="Run inside a cluster, set KUBECONFIG, or set PLATFORM=container.",
                evidence=(str(error),),
                whose=Whose.PLATFORM,
            ) from error
        SSLProtocol.max_size = READ_BYTES  # for the process: asyncio takes it from nowhere else
        configuration.retries = None  # 0 is for ever, with growing pauses
        configuration.connection_pool_maxsize = CONNECTIONS
        # As all our clients: a kubeconfig says its proxy itself; to ask the environment takes each request two threads.
        configuration.client_session_kwargs = {"trust_env": False}
        client = ApiClient(configuration)
        client.user_agent = MANAGER
        namespaces = {Where.PREVIEWS: settings.preview_namespace, Where.BUILDS: settings.build_namespace}
        return cls(client=client, namespaces=namespaces)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

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
    ) -> bool:
        """Delete an object, and in the background what it owns. False if there was none, or not the one meant.

        With `uid` or `version` only that very object is deleted, at that very version. Raises no `Refused`, as `get`.
        """
        conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            await self._ask("delete", "DELETE", resource, name, body={**body, "preconditions": conditions})
        except Refused as error:
            if error.code == 404 or (error.code == 409 and conditions):
                return False
            raise refused(error, f"{resource.kind.lower()}/{name}") from error
        return True

    async def may(self, resource: Resource, verb: str) -> bool:
        """Whether the API server would let us."""
        plural, _, subresource = resource.plural.partition("/")
        attributes = {
            "namespace": self.namespace(resource), "verb": verb, "group": resource.group, "resource": plural,
            "subresource": subresource,
        }  # fmt: skip
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._json("POST", path, {}, body={**kind, "spec": {"resourceAttributes": attributes}})
        return answers.field(answer, "status", "allowed") is True

    async def version(self) -> str:
        """The API server's version."""
        return str(answers.field(await self._json("GET", "/version", {}), "gitVersion"))[:100]

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
        async with self._stream(path, query, accept, begins=TIMEOUT) as content:
            async for line in content:  # of 4 MiB at most, by the client's own buffers
                yield answers.change(line)

    @asynccontextmanager
    async def log(
        self, resource: Resource, pod: str, *, follow: bool = False, previous: bool = False, tail: int | None = None,
        since: datetime | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:  # fmt: skip
        """The log of a pod's only container, as a stream of lines."""
        query = {"follow": json.dumps(follow), "previous": json.dumps(previous)}
        if tail is not None:
            query["tailLines"] = str(tail)
        if since is not None:
            query["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = self._path("get", resource, "").removesuffix("/log") + f"/{quote(pod)}/log"
        async with self._stream(path, query, "*/*", silence=None if follow else TIMEOUT) as content:
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
        content: str = "application/json",
        accept: str | None = None,
    ) -> Object:
        path = self._path(verb, resource, name)
        return await self._json(method, path, query or {}, body=body, content=content, accept=accept)

    def _path(self, verb: str, resource: Resource, name: str) -> str:
        assert verb in resource.verbs, f"{verb} {resource.plural} is not in the table of resources"
        path = f"{resource.root}/namespaces/{quote(self.namespace(resource))}/{resource.plural}"
        return f"{path}/{quote(name)}" if name else path

    async def _json(
        self, method: str, path: str, query: Mapping[str, str], *, body: Any = None,
        content: str = "application/json", accept: str | None = None,
    ) -> Object:  # fmt: skip
        with _translated():
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            response = await self._send(method, path, query, content, accept, timeout, body)
            if response.status >= 400:
                raise await _refusal(response)
            return answers.parsed(await _read(response))

    @asynccontextmanager
    async def _stream(
        self, path: str, query: Mapping[str, str], accept: str | None, silence: float | None = SILENCE_SECONDS,
        begins: float | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:  # fmt: skip
        """An answer as it comes, its headers within `begins` seconds: those of a quiet log need not come at once."""
        with _translated():
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=silence)
            async with asyncio.timeout(begins):
                response = await self._send("GET", path, query, "application/json", accept, timeout)
            try:
                if response.status >= 400:
                    raise await _refusal(response)
                yield response.response.content
            finally:
                response.response.close()

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], content: str, accept: str | None,
        timeout: aiohttp.ClientTimeout, body: Any = None,
    ) -> RESTResponse:  # fmt: skip
        # Without the body, which is plain data already: it would be walked through to be made that.
        method, url, headers, _, _ = await self._client.param_serialize(
            method,
            path,
            query_params=[(key, value) for key, value in query.items() if value],
            header_params={"Accept": accept or "application/json", "Content-Type": content},
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(method, url, headers, body, _request_timeout=timeout)


async def _refusal(response: RESTResponse) -> Exception:
    return answers.refusal(response.status, response.headers.get("Retry-After", ""), await _read(response))


async def _read(response: RESTResponse) -> bytes:
    """The whole answer, where it is not too large."""
    data = bytearray()
    try:
        async for piece in response.response.content.iter_any():
            data += piece
            if len(data) > MOST_BYTES:
                raise unreachable(f"an answer of more than {MOST_BYTES} bytes")
    finally:
        response.response.release()  # back to the others where it was read to its end, else closed
    return bytes(data)


class _translated:  # noqa: N801 - used as a `with` statement's word
    """Connection errors of the client become errors of ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, TimeoutError, OSError)):
            raise unreachable(str(error) or type(error).__name__) from error
