"""An API server given by a kubeconfig, asked with plain HTTP: a client library would tidy up what we want to see."""

from __future__ import annotations

import base64
import io
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.cluster.differential.steps import JSON, Answer, Json

AGENT = "differential/1"  # the part before the slash becomes the manager of plain writes
LONGEST = aiohttp.ClientTimeout(total=60)


@dataclass
class Target:
    """One API server: `admin` is a session with its administrator's credentials, `plain` one without any."""

    url: str
    admin: aiohttp.ClientSession
    plain: aiohttp.ClientSession
    issue: Callable[[str], str] | None = None  # hands out a user's token where there is no TokenRequest
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Json = None,
        token: str = "",
    ) -> Answer:
        """One request. A body that is text goes out as it is, anything else as JSON."""
        sent = {"Accept": JSON, **(headers or {})}
        text = body if isinstance(body, str | None) else json.dumps(body)
        data = io.BytesIO(text.encode()) if text is not None else None
        if data is not None:
            sent.setdefault("Content-Type", JSON)
        if token:
            sent["Authorization"] = f"Bearer {token}"
        session = self.plain if "Authorization" in sent else self.admin
        async with session.request(method, self.url + path, params=query, headers=sent, data=data) as response:
            return _answer(response, await response.text())

    async def token(self, namespace: str, account: str) -> str:
        """A token of a service account; asked for once."""
        if self.issue:
            return self.tokens.setdefault(
                (namespace, account), self.issue(f"system:serviceaccount:{namespace}:{account}")
            )
        if (namespace, account) not in self.tokens:
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
            wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            answer = await self.send("POST", path, body=wanted)
            self.tokens[namespace, account] = answer.body["status"]["token"]
        return self.tokens[namespace, account]


@asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[Target]:
    """The server of the kubeconfig's current context, with its certificate or token."""
    cluster, user = _context(kubeconfig)
    authority = _pem(cluster, "certificate-authority", kubeconfig)
    bearer = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    async with AsyncExitStack() as stack:
        admin, plain = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context),
                    headers={"User-Agent": AGENT, **headers},
                    timeout=LONGEST,
                    skip_auto_headers=("Content-Type",),
                )
            )
            for context, headers in ((_tls(authority, user, kubeconfig), bearer), (_tls(authority, {}, kubeconfig), {}))
        ]
        yield Target(cluster["server"].rstrip("/"), admin, plain)


def _context(kubeconfig: Path) -> tuple[Any, Any]:
    """Cluster and user of the current context."""
    config = yaml.safe_load(kubeconfig.read_text())
    entries = {kind: {entry["name"]: entry for entry in config[f"{kind}s"]} for kind in ("context", "cluster", "user")}
    context = entries["context"][config["current-context"]]["context"]
    return entries["cluster"][context["cluster"]]["cluster"], entries["user"][context["user"]]["user"]


def _pem(entry: Any, key: str, kubeconfig: Path) -> str:
    """A certificate or key that stands in the kubeconfig or in a file named there; empty if neither."""
    if inline := entry.get(f"{key}-data"):
        return base64.b64decode(inline).decode()
    return (kubeconfig.parent / entry[key]).read_text() if key in entry else ""


def _tls(authority: str, user: Any, kubeconfig: Path) -> ssl.SSLContext:
    """Trust in the server's authority, and the user's client certificate where there is one."""
    context = ssl.create_default_context(cadata=authority or None)
    if certificate := _pem(user, "client-certificate", kubeconfig):
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
            both.write(certificate + "\n" + _pem(user, "client-key", kubeconfig))
            both.flush()
            context.load_cert_chain(both.name)
    return context


def _answer(response: aiohttp.ClientResponse, text: str) -> Answer:
    """Code, media type, warnings and decoded body; one event a line (or none at all) is a watch."""
    media = response.headers.get("Content-Type", "").split(";")[0]
    warnings = tuple(json.loads(value.split(" ", 2)[2]) for value in response.headers.getall("Warning", []))
    body: Json = text
    if media == JSON:
        streamed = text.startswith('{"type":') or not text
        body = [json.loads(line) for line in text.splitlines()] if streamed else json.loads(text)
    return Answer(response.status, media, warnings, body)
