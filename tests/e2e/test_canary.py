"""A secret goes every way that one can go; nothing that leaves has it. Files and arguments: see `world` in conftest."""

from __future__ import annotations

import json
from typing import Any

import httpx

from provider.demo.world import World
from tests.canary import CANARY, in_bytes
from tests.e2e.apps import app_files
from tests.e2e.helpers import deployed, log_lines, refused, refused_deploy, send
from tests.wire import tap

SECRETS: dict[str, Any] = {"secret_values": {"TOKEN": CANARY}, "extra_env": {"EXTRA": CANARY}}
USED = {"env": [{"name": "TOKEN", "from": "secret:TOKEN"}]}
PAGES = ("/metrics", "/readyz", "/healthz", "/", "/previews/canary")
SERVE = "exec httpd -f -p 8080 -h /www"


async def test_a_secret_is_in_nothing_that_leaves(world: World) -> None:
    async with tap(world.client.nats, world.client.subjects.prefix) as heard:
        pages = await every_way(world)
    requests = set(heard.requests.values())
    said = [one for one in heard.messages if one.subject not in requests and not one.subject.endswith(".queue")]
    assert len(said) > 50
    assert [one.subject for one in said if in_bytes(one.data + repr(one.headers).encode(), [CANARY])] == []
    assert [page.status_code for page in pages] == [200] * len(PAGES)
    assert [page.url.path for page in pages if in_bytes(page.content, [CANARY])] == []


async def every_way(world: World) -> list[httpx.Response]:
    """Up, with the secret in the app's log; refused, crashed and failed in checks, with it in what is told of that.

    Returns the provider's pages as they are then.
    """
    client = world.client
    files = app_files("canary", world.base_image, spec_extra=USED, command=f"env; {SERVE}")
    await deployed(world, "canary", files=files, session_id="s-canary", notify=True, **SECRETS)
    await client.introspect("canary")
    await client.status("canary")
    await client.list()
    told: dict[str, Any] = {"session_id": "s-canary", "notify": True, **SECRETS}
    check = [{"path": "/cgi-bin/env", "body_contains": "what is not there"}]
    failed = await refused_deploy(world, "canary", files, acceptance=check, **told)
    assert failed.code == "verify_failed"
    crashing = app_files("canary", world.base_image, spec_extra=USED, command="env; echo $TOKEN | base64; exit 3")
    failed = await refused_deploy(world, "canary", crashing, **told)
    assert (failed.code, "TOKEN=***" in failed.log_tail) == ("deployment_not_ready", True)
    asked = {"repo_full_name": "acme/canary", "branch": "main"}
    for wrong in ({"secret_values": CANARY}, {"secret_values": {"A": [CANARY]}}, {"extra_env": {CANARY: "x"}}):
        assert (await send(world, "provision", asked | wrong))["code"] == "invalid_request"
    await client.nats.publish(client.subjects.queue, json.dumps(asked | SECRETS).encode())
    await refused(client.approve("d-none", "ada"))
    address = log_lines(world, "provider.ready")[-1]["http"]
    async with httpx.AsyncClient(trust_env=False) as http:
        pages = [await http.get(f"http://{address}{path}") for path in PAGES]
    await client.teardown("canary")
    return pages
