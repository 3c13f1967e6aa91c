"""An ingress for real clusters that have none: HTTPS in front, the Services' cluster addresses behind.

It reads the previews' Ingress objects at each request. What runs it must reach cluster addresses: a node does.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trustme
from aiohttp import web

from tests.cluster.admin import Admin


@dataclass(frozen=True)
class Front:
    """Where an ingress listens, and the authority of its certificate."""

    address: str
    ca_file: Path


@asynccontextmanager
async def ingress_proxy(api: Admin, namespace: str, domain: str, folder: Path) -> AsyncIterator[Front]:
    """Serve the namespace's Ingress objects on a free loopback port."""
    authority = trustme.CA()
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(f"*.{domain}").configure_cert(trust)
    ca_file = folder / "ingress-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    # Cluster addresses are given out again: a connection that is kept may lead to another preview's pod.
    # And one that began before its address led anywhere never will: another one may.
    transport = httpx.AsyncHTTPTransport(retries=3, limits=httpx.Limits(max_keepalive_connections=0))
    timeout = httpx.Timeout(10, connect=1)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout, transport=transport) as http:
        app = web.Application()

        async def handle(request: web.Request) -> web.Response:
            return await _answer(request, api, namespace, http)

        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust).start()
            yield Front(f"127.0.0.1:{runner.addresses[0][1]}", ca_file)
        finally:
            await runner.cleanup()


async def _answer(request: web.Request, api: Admin, namespace: str, http: httpx.AsyncClient) -> web.Response:
    host = request.host.partition(":")[0]
    rules = [rule for one in await api.list("Ingress", namespace) for rule in one["spec"]["rules"]]
    rule = next((rule for rule in rules if rule["host"] == host), None)
    if rule is None:
        return web.Response(status=404, text="no such host\n")
    service = await api.get("Service", namespace, rule["http"]["paths"][0]["backend"]["service"]["name"])
    if service is None:
        return web.Response(status=503, text="no such service\n")
    url = f"http://{service['spec']['clusterIP']}{request.path_qs}"
    try:
        answer = await http.request(request.method, url, content=await request.read())
    except httpx.HTTPError as error:
        return web.Response(status=502, text=f"{error!r}\n")
    kind = answer.headers.get("content-type", "text/plain").partition(";")[0]
    return web.Response(status=answer.status_code, body=answer.content, content_type=kind)
