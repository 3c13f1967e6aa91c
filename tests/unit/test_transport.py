"""How the API server is spoken to: logins that end, and answers that are not its own."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from aiohttp import web

from provider.errors import Temporary
from provider.http_server import HttpServer
from provider.platforms.kubernetes import answers
from provider.platforms.kubernetes.refusals import Refused, refused
from provider.platforms.kubernetes.transport import Transport
from provider.settings import Settings


async def test_a_kubeconfigs_token_is_made_anew_when_it_ends(tmp_path: Path) -> None:
    """EKS: 15 minutes; GKE, AKS: an hour."""
    told: list[str] = []

    async def version(request: web.Request) -> web.Response:
        told.append(request.headers.get("Authorization", ""))
        return web.json_response({"gitVersion": "v1.36.2"})

    server = HttpServer("127.0.0.1:0", [web.get("/version", version)])
    address = await server.start()
    counter, plugin = tmp_path / "count", tmp_path / "plugin"
    counter.write_text("0")
    plugin.write_text(
        f"""#!/bin/sh
count=$(($(cat {counter}) + 1)); echo $count > {counter}
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
 "status": {{"token": "token-'$count'", "expirationTimestamp": "2020-01-01T00:00:00Z"}}}}'
"""
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://{address}"}}],
        "users": [
            {
                "name": "u",
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1",
                        "command": str(plugin),
                        "interactiveMode": "Never",
                    }
                },
            }
        ],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    transport = await Transport.connect(Settings.model_validate({"kubeconfig": tmp_path / "kubeconfig"}))
    try:
        for _ in range(2):
            await transport.ask("GET", "/version")
    finally:
        await transport.close()
        await server.close()
    assert told[0].startswith("Bearer token-")
    assert told[0] != told[1], f"an expired token was sent again: {told}"


def test_a_lapsed_login_is_told_as_one_and_asked_again() -> None:
    error = refused(Refused(401, "Unauthorized", "Unauthorized"), "deployment/shop")
    assert isinstance(error, Temporary), "it was Permanent: every deploy under way fails at once"
    assert "credentials" in str(error.hint)


def test_a_webhook_that_is_away_is_not_the_api() -> None:
    """The API server did answer, and said which webhook did not."""
    said = (
        'Internal error occurred: failed calling webhook "validate.nginx.ingress.kubernetes.io": failed to call it: '
        'Post "https://ingress-nginx-controller-admission.ingress-nginx.svc:443/networking/v1/ingresses?timeout=10s": '
        "dial tcp 10.96.17.3:443: connect: connection refused"
    )
    status = {"kind": "Status", "status": "Failure", "message": said, "reason": "InternalError", "code": 500}
    error = answers.refusal(500, "", json.dumps(status).encode())
    assert isinstance(error, Temporary)
    assert error.message != "The Kubernetes API did not answer."
    assert "validate.nginx.ingress.kubernetes.io" in f"{error.message} {error.hint}"
