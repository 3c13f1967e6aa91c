"""The way in: what a visitor gets while pods come, go and fail."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trustme

from tests.cluster.standin.script import Answer, AppScript, Asked
from tests.cluster.standin.world import World
from tests.cluster.world_helpers import APPS, Object, deployment, ingress, install, roll, service

NGINX = "nginx.ingress.kubernetes.io/"
HOST = "shop.preview.localhost"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World(speed=20, namespaces=(APPS,)) as running:
        yield running


@asynccontextmanager
async def visitor(world: World, *more_trust: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps its connections and trusts the ingress."""
    trust = ssl.create_default_context(cadata="\n".join([world.ingress.ca_pem, *more_trust]))
    async with httpx.AsyncClient(verify=trust, trust_env=False, base_url=f"https://{world.ingress.address}") as http:
        yield http


async def get(http: httpx.AsyncClient, path: str = "/", host: str = HOST) -> httpx.Response:
    return await http.get(path, headers={"Host": host}, extensions={"sni_hostname": host})


async def shop(world: World, **annotations: str) -> None:
    """An app with all that it needs."""
    install(world, deployment("shop"), service("shop"), ingress("shop", **annotations))
    await world.settled()


async def test_nothing_there_is_404_and_nobody_ready_is_503(world: World) -> None:
    world.scripts.app("shop", AppScript(never_ready=True))
    await shop(world)
    async with visitor(world) as http:
        assert (await get(http)).status_code == 503
        assert (await get(http, host="other.preview.localhost")).status_code == 404
    assert [one.status for one in world.ingress.failed(HOST)] == [503]


async def test_another_class_is_somebody_elses(world: World) -> None:
    other = ingress("shop")
    other["spec"]["ingressClassName"] = "traefik"
    install(world, deployment("shop"), service("shop"), other)
    await world.settled()
    async with visitor(world) as http:
        assert (await get(http)).status_code == 404


async def test_the_app_sees_the_request_and_its_own_environment(world: World) -> None:
    def answer(asked: Asked) -> Answer:
        told = f"{asked.method} {asked.path} {asked.headers['Host']} {asked.env['COLOR']}"
        return Answer(201, told, {"X-App": "1"})

    world.scripts.app("shop", AppScript(answers=answer))
    env = [{"name": "COLOR", "value": "red"}]
    probe: Object = {"tcpSocket": {"port": 3000}}
    install(world, deployment("shop", env=env, readinessProbe=probe), service("shop"), ingress("shop"))
    await world.settled()
    async with visitor(world) as http:
        answered = await get(http, "/a/b?c=d")
    assert (answered.status_code, answered.headers["X-App"]) == (201, "1")
    assert answered.text == f"GET /a/b?c=d {HOST} red"


async def test_a_rollout_under_load_loses_no_request(world: World) -> None:
    await shop(world)
    rolled = asyncio.Event()

    async def load() -> set[str]:
        texts = set()
        async with visitor(world) as http:
            while not rolled.is_set():
                texts.add((await get(http)).text)
            texts.add((await get(http)).text)
        return texts

    visits = asyncio.create_task(load())
    roll(world, "shop", "b2")
    await world.settled()
    rolled.set()
    assert len(await visits) == 2
    assert world.ingress.failed() == []
    assert len(world.ingress.seen) > 10


async def test_a_pod_that_is_gone_before_the_ingress_knows_costs_requests() -> None:
    async with World(speed=20, namespaces=(APPS,), ingress_lag=10.0) as world:
        await shop(world)
        (pod,) = world.store.list("Pod", APPS)
        async with visitor(world) as http:
            assert (await get(http)).status_code == 200
            world.store.delete("Pod", APPS, pod["metadata"]["name"], grace=0)
            assert (await get(http)).status_code == 502


async def test_prefixes_rewriting_and_response_headers(world: World) -> None:
    world.scripts.app("shop", AppScript(answers=lambda asked: Answer(200, asked.path)))
    data = {"X-Robots-Tag": "noindex"}
    headers = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop", "namespace": APPS}, "data": data}
    annotations = {
        f"{NGINX}use-regex": "true",
        f"{NGINX}rewrite-target": "/$2",
        f"{NGINX}custom-headers": f"{APPS}/shop",
    }
    install(world, headers, deployment("shop"), service("shop"), ingress("shop", "/app(/|$)(.*)", **annotations))
    await world.settled()
    async with visitor(world) as http:
        assert (await get(http, "/app/x/y")).text == "/x/y"
        assert (await get(http, "/app")).headers["X-Robots-Tag"] == "noindex"
        assert (await get(http, "/other")).status_code == 404


async def test_alias_hosts_have_their_own_certificate(world: World) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("shop.example.org")
    chain = b"".join(one.bytes() for one in pair.cert_chain_pems)
    data = {"tls.crt": chain, "tls.key": pair.private_key_pem.bytes()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "alias", "namespace": APPS},
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }
    both = ingress("shop")
    both["spec"]["rules"].append({**both["spec"]["rules"][0], "host": "shop.example.org"})
    both["spec"]["tls"] = [{"hosts": ["shop.example.org"], "secretName": "alias"}]
    install(world, deployment("shop"), service("shop"), both)
    await world.settled()
    async with visitor(world) as http:
        with pytest.raises(httpx.ConnectError):
            await get(http, host="shop.example.org")
    install(world, secret)
    await world.settled()
    async with visitor(world, authority.cert_pem.bytes().decode()) as http:
        assert (await get(http, host="shop.example.org")).status_code == 200
