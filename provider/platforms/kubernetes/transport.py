"""The one place that speaks to the API server: `kubernetes.aio` below, requests and plain answers above.

The client's configuration, authentication, TLS and connections are used; its typed models are not: what goes over
the wire is what was rendered, and what a watch brings is not made into thousands of model objects. The client
retries nothing here: errors become `Temporary` and the runner decides, within the phase's deadline.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KubeConfigLoader

from provider.errors import Code, Permanent, Whose
from provider.platforms.kubernetes import answers
from provider.platforms.kubernetes.refusals import unreachable
from provider.settings import Settings

MANAGER = "x1-preview-provider"
JSON = "application/json"
TIMEOUT = 15.0
SILENCE_SECONDS = 90.0
"""A watch that is quiet for longer is dead."""
MOST_BYTES = 32 << 20
"""Of one answer: a page of large objects has a tenth of that."""
CONNECTIONS = 1000
"""No limit that is met: each log that is followed keeps one, and what waited for a free one would be an outage."""

READ_BYTES = 32 * 1024
"""What is read of a TLS connection at once: two of its records. asyncio keeps a buffer of that size for each, of 256 kB
of its own accord; hundreds of logs that are followed are hundreds of connections over which next to nothing comes."""


class Transport:
    """Requests, each bounded in time.

    Raises of every one: `Refused` for what the caller has to judge (400 to 422 but 429), else Temporary:
    `platform_unreachable`.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, settings: Settings) -> Transport:
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
                async with asyncio.timeout(TIMEOUT):  # it may run a program
                    loader = await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
                configuration.refresh_api_key_hook = _renewal(loader)  # type: ignore[assignment]
        except (ConfigException, OSError) as error:
            raise Permanent(
                Code.PLATFORM_UNREACHABLE,
                "There is no configuration for a Kubernetes cluster.",
                reason="NotConfigured",
                hint="Run inside a cluster, set KUBECONFIG, or set PLATFORM=container.",
                evidence=(str(error) or f"reading it took more than {TIMEOUT:g} s",),
                whose=Whose.PLATFORM,
            ) from error
        SSLProtocol.max_size = READ_BYTES  # for the process: asyncio takes it from nowhere else
        configuration.retries = None  # 0 is for ever, with growing pauses
        configuration.connection_pool_maxsize = CONNECTIONS
        # As all our clients: a kubeconfig says its proxy itself; to ask the environment takes each request two threads.
        configuration.client_session_kwargs = {"trust_env": False}
        client = ApiClient(configuration)
        client.user_agent = MANAGER
        return cls(client)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = JSON,
        accept: str | None = None,
    ) -> answers.Object:
        """One request; its answer, an object."""
        with _translated():
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            response = await self._send(method, path, query or {}, content, accept, timeout, body)
            if response.status >= 400:
                raise await _refusal(response)
            return answers.parsed(await _read(response))

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], accept: str | None, *, silence: float | None = SILENCE_SECONDS,
        begins: float | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:  # fmt: skip
        """An answer as it comes, its headers within `begins` seconds: those of a quiet log need not come at once."""
        with _translated():
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=silence)
            async with asyncio.timeout(begins):
                response = await self._send("GET", path, query, JSON, accept, timeout)
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
            header_params={"Accept": accept or JSON, "Content-Type": content},
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(method, url, headers, body, _request_timeout=timeout)


def _renewal(loader: KubeConfigLoader) -> Callable[[Configuration], Awaitable[None]] | None:
    """Makes a login's token anew before it ends, where a program of the kubeconfig makes it and says when that is.

    The client runs this before each request, and has no other way: without it the first token is used for ever.
    """
    if not hasattr(loader, "exec_plugin_expiry"):
        return None
    one_at_a_time = asyncio.Lock()

    async def renew(configuration: Configuration) -> None:
        async with asyncio.timeout(TIMEOUT), one_at_a_time:  # with the wait for others: this is a part of a request
            await loader.load_from_exec_plugin()  # nothing, while the present one holds
        configuration.api_key["BearerToken"] = loader.token

    return renew


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
