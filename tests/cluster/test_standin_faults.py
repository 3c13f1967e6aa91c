"""Faults on demand, restarts, and the counters that tests assert on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.cluster.standin.client import Api, config_map, running_api
from tests.cluster.standin.metrics import Call


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        yield api


async def test_too_many_requests_as_often_as_wanted(api: Api) -> None:
    fault = api.faults.too_many(3, verb="list", resource="configmaps", times=2)
    answers = [await api.get("ConfigMap") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "3"
    assert answers[0].json()["details"] == {"retryAfterSeconds": 3}
    assert fault.struck == 2


async def test_errors_until_they_are_lifted(api: Api) -> None:
    fault = api.faults.error(503, resource="configmaps", name="a*")
    assert (await api.get("ConfigMap", "abc")).status_code == 503
    assert (await api.get("ConfigMap", "kube-root-ca.crt")).status_code == 200
    api.faults.lift(fault)
    assert (await api.get("ConfigMap", "abc")).status_code == 404


@pytest.mark.parametrize("done", [False, True])
async def test_a_cut_connection_before_or_after_the_work(api: Api, done: bool) -> None:
    api.faults.cut(done=done, verb="create", times=1)
    with pytest.raises(httpx.TransportError):
        await api.create(config_map("a"))
    assert (await api.get("ConfigMap", "a")).status_code == (200 if done else 404)


async def test_a_held_request_goes_on_when_the_test_says(api: Api) -> None:
    fault = api.faults.hold(verb="patch", resource="configmaps")
    applying = asyncio.create_task(api.apply(config_map("a")))
    await fault.held()
    assert (await api.get("ConfigMap", "a")).status_code == 404
    fault.release()
    assert (await applying).status_code == 201


async def test_a_delayed_request_goes_on_when_the_fault_is_lifted(api: Api) -> None:
    fault = api.faults.delay(60, verb="get")
    asking = asyncio.create_task(api.get("ConfigMap", "kube-root-ca.crt"))
    while not fault.struck:
        await api.get("ConfigMap")
    api.faults.lift(fault)
    assert (await asking).status_code == 200


async def test_a_watch_that_is_expired_from_the_start(api: Api) -> None:
    api.faults.expire_watch(resource="configmaps", times=1)
    events = await api.events("ConfigMap", resourceVersion="1")
    assert [(event["type"], event["object"]["code"]) for event in events[-1:]] == [("ERROR", 410)]
    assert (await api.events("ConfigMap", 1))[0]["type"] == "ADDED"


async def test_a_slow_watch_tells_late(api: Api) -> None:
    fault = api.faults.slow_watch(60, resource="configmaps")
    watching = asyncio.ensure_future(anext(api.watch("ConfigMap")))
    while not fault.struck:
        await api.get("ConfigMap")
    assert not watching.done()
    api.faults.lift(fault)
    assert (await watching)["type"] == "ADDED"


async def test_watches_that_are_open_can_be_slowed_and_cut(api: Api) -> None:
    watching = api.watch("ConfigMap")
    await anext(watching)
    fault = api.faults.slow_watch(60, resource="configmaps")
    await api.create(config_map("late"))
    while not fault.struck:
        await api.get("ConfigMap")
    api.faults.lift(fault)
    assert (await anext(watching))["object"]["metadata"]["name"] == "late"
    api.server.cut_watches("pods")
    await api.create(config_map("later"))
    assert (await anext(watching))["object"]["metadata"]["name"] == "later"
    api.server.cut_watches("configmaps")
    with pytest.raises(httpx.TransportError):
        await anext(watching)


async def test_a_restart_cuts_watches_and_keeps_objects_and_port(api: Api) -> None:
    await api.create(config_map("a"))
    watching = api.watch("ConfigMap")
    await anext(watching)
    url = api.server.url
    await api.server.restart()
    with pytest.raises(httpx.TransportError):
        assert [event async for event in watching]
    assert api.server.url == url
    assert (await api.get("ConfigMap", "a")).status_code == 200
    assert api.server.metrics.watches == 0


async def test_requests_and_connections_are_counted(api: Api) -> None:
    for _ in range(3):
        await api.get("ConfigMap")
    metrics = api.server.metrics
    assert metrics.requests[Call("list", "configmaps", "", "admin")] == 3
    assert metrics.connections == 1
    metrics.reset()
    assert metrics.total() == 0


async def test_a_kubeconfig_leads_there(api: Api, tmp_path: Path) -> None:
    config = yaml.safe_load(api.server.kubeconfig(tmp_path, "admin").read_text())
    token = config["users"][0]["user"]["token"]
    context = ssl.create_default_context(cadata=api.server.ca_pem)
    async with httpx.AsyncClient(verify=context) as client:
        url = f"{config['clusters'][0]['cluster']['server']}/api/v1/namespaces"
        assert (await client.get(url, headers={"Authorization": f"Bearer {token}"})).status_code == 200
