"""The cluster's way in: a real HTTPS server that leads requests to pods, as an ingress controller does.

It follows Ingresses and EndpointSlices with a lag of its own, as real ones do, so that a provider which believes
the API too early is caught here.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from tests.cluster.standin.controllers.base import Tools
from tests.cluster.standin.routes import WATCHED, Endpoint, Route, Table, class_of
from tests.cluster.standin.script import Answer, Asked

Object = dict[str, Any]
Ask = Callable[[str, int, Asked], Awaitable[Answer]]
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"})


@dataclass(frozen=True)
class Seen:
    """One answer that the ingress gave; `pod` is empty where none was asked."""

    host: str
    path: str
    status: int
    pod: str


class Ingress:
    """An ingress controller of one class.

    Args:
        ask: asks what listens at a pod's address and port; ConnectionRefusedError if nothing does.
        domain: previews are below it; the server has a wildcard certificate for it.
        lag: seconds from a change in the API to its effect here.

    Attributes:
        address: host:port, once started.
        ca_pem: what signed its certificate.
        seen: every answer so far.
        led: when a route first led to a pod, in seconds of ours.
    """

    def __init__(self, tools: Tools, ask: Ask, *, domain: str, ingress_class: str, lag: float) -> None:
        self.address = ""
        self.seen: list[Seen] = []
        self.led: dict[str, float] = {}
        self._tools = tools
        self._ask = ask
        self._class = ingress_class
        self._lag = lag
        self._table = Table(tools.cache, ingress_class)
        self._pending: asyncio.TimerHandle | None = None
        self._runner: web.ServerRunner | None = None
        self._authority = trustme.CA()
        self._context = _server_context()
        self._authority.issue_cert(f"*.{domain}", domain).configure_cert(self._context)
        self._context.sni_callback = self._choose_certificate
        self.ca_pem = self._authority.cert_pem.bytes().decode()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Cut all connections and stop."""
        if self._pending is not None:
            self._pending.cancel()
            self._tools.activity.end()
        if self._runner is not None:
            await self._runner.cleanup()

    def failed(self, host: str = "") -> list[Seen]:
        """The answers that a visitor would call an outage."""
        return [one for one in self.seen if one.status >= 500 and host in ("", one.host)]

    def notice(self, event: str, obj: Object) -> None:
        """Follow the API, a little later."""
        if obj["kind"] not in WATCHED:
            return
        self._table.changed(obj)
        if self._pending is None:
            self._tools.activity.begin()
            self._pending = self._tools.clock.call_later(self._lag, self._reload)

    def _reload(self) -> None:
        self._pending = None
        for route in self._table.update():
            for endpoint in route.endpoints:
                self.led.setdefault(endpoint.pod, time.monotonic())
        self._tools.activity.end()

    # --------------------------------------------------------------------------------- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host, path = request.host.partition(":")[0].lower(), request.path
        route = self._table.find(host, path)
        if route is None:
            return self._tell(host, path, Answer(404, "default backend - 404\n"), "")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        query = f"?{request.query_string}" if request.query_string else ""
        forwarded = {"Host": request.host, "X-Forwarded-Proto": "https", "X-Forwarded-Host": request.host}
        asked = Asked(request.method, route.rewritten(path) + query, headers | forwarded, await request.read())
        answer, pod = await self._pass_on(route, asked)
        return self._tell(host, path, answer, pod, route.headers)

    async def _pass_on(self, route: Route, asked: Asked) -> tuple[Answer, str]:
        """Ask the next endpoint; where nothing listens any more, the one after it."""
        endpoint: Endpoint | None = None
        for endpoint in route.next():
            try:
                return await self._ask(endpoint.ip, endpoint.port, asked), endpoint.pod
            except ConnectionRefusedError:
                continue
        if endpoint is None:
            return Answer(503, "503 Service Temporarily Unavailable\n"), ""
        return Answer(502, "502 Bad Gateway\n"), endpoint.pod

    def _tell(
        self, host: str, path: str, answer: Answer, pod: str, more: dict[str, str] | None = None
    ) -> web.StreamResponse:
        self.seen.append(Seen(host, path, answer.status, pod))
        return web.Response(status=answer.status, body=answer.body.encode(), headers={**answer.headers, **(more or {})})

    # ----------------------------------------------------------------------------- certificates

    def _choose_certificate(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """The certificate of the Secret that an Ingress names for this host; else the wildcard."""
        if name and (found := self._secret_for(name)) is not None:
            connection.context = found

    def _secret_for(self, name: str) -> ssl.SSLContext | None:
        for ingress in self._tools.cache.all("Ingress"):
            for entry in ingress["spec"].get("tls", []) if class_of(ingress) == self._class else ():
                if name in entry.get("hosts", []):
                    key = (ingress["metadata"]["namespace"], entry.get("secretName", ""))
                    return _context_of(self._tools.cache.get("Secret", key))
        return None


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _context_of(secret: Object | None) -> ssl.SSLContext | None:
    """The certificate of a Secret of type kubernetes.io/tls; None where there is none that works."""
    data = (secret or {}).get("data", {})
    if "tls.crt" not in data or "tls.key" not in data:
        return None
    context = _server_context()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pair.pem")
        path.write_bytes(b64decode(data["tls.key"]) + b"\n" + b64decode(data["tls.crt"]))
        try:
            context.load_cert_chain(path)
        except ssl.SSLError:
            return None
    return context
