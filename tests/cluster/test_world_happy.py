"""The world when all goes well: builds end with an image in the registry, rollouts with an answer at the ingress."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.standin.script import BuildScript
from tests.cluster.standin.world import World
from tests.cluster.world_helpers import (
    APPS,
    BUILDS,
    build_job,
    clone_secret,
    condition,
    deployment,
    ingress,
    install,
    job,
    only,
    roll,
    service,
    sources,
    until,
)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World(speed=20, namespaces=(APPS, BUILDS)) as running:
        yield running


async def visit(world: World, name: str, path: str = "/") -> httpx.Response:
    trust = ssl.create_default_context(cadata=world.ingress.ca_pem)
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        host = f"{name}.preview.localhost"
        url = f"https://{world.ingress.address}{path}"
        return await http.get(url, headers={"Host": host}, extensions={"sni_hostname": host})


async def test_a_deployment_becomes_available_and_the_ingress_serves_it(world: World) -> None:
    install(world, deployment("shop"), service("shop"), ingress("shop"))
    await world.settled()
    status = only(world, "Deployment")["status"]
    assert (status["observedGeneration"], status["updatedReplicas"], status["availableReplicas"]) == (1, 1, 1)
    assert condition(only(world, "Deployment"), "Progressing")["reason"] == "NewReplicaSetAvailable"
    answer = await visit(world, "shop")
    assert answer.status_code == 200
    assert "commit a1" in answer.text


async def test_a_rollout_replaces_the_pod_and_leaves_only_the_new_endpoint(world: World) -> None:
    install(world, deployment("shop"), service("shop"), ingress("shop"))
    await world.settled()
    roll(world, "shop", "b2")
    await world.settled()
    (endpoint,) = only(world, "EndpointSlice")["endpoints"]
    assert endpoint["targetRef"]["name"] == only(world, "Pod")["metadata"]["name"]
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert "commit b2" in (await visit(world, "shop")).text
    annotations = [one["metadata"]["annotations"] for one in world.store.list("ReplicaSet", APPS)]
    assert sorted(one["deployment.kubernetes.io/revision"] for one in annotations) == ["1", "2"]


async def test_a_build_pushes_a_real_image_and_leaves_its_digest(tmp_path: Path) -> None:
    async with sources(tmp_path) as given:
        sha = await given.commit()
        registries = {"x1-registry:5000": given.registry}
        async with World(speed=20, namespaces=(BUILDS,), registries=registries) as world:
            install(world, clone_secret(), build_job("build-1", given.context(sha), "--build-arg=COLOR=red"))
            await world.settled()
            (status,) = only(world, "Pod", BUILDS)["status"]["containerStatuses"]
            assert status["state"]["terminated"]["exitCode"] == 0
            assert condition(only(world, "Job", BUILDS), "Complete")["status"] == "True"
            digest = status["state"]["terminated"]["message"]
        async with httpx.AsyncClient(base_url=f"http://{given.registry}/v2/previews/shop", trust_env=False) as http:
            manifest = await http.get(f"/manifests/{digest}", headers={"Accept": "*/*"})
            assert manifest.status_code == 200
            layer = await http.get(f"/blobs/{manifest.json()['layers'][0]['digest']}")
            assert sha.encode() in gzip.decompress(layer.content)


async def test_it_takes_as_long_as_on_a_real_cluster() -> None:
    async with World(speed=1, namespaces=(APPS, BUILDS)) as world:
        install(world, deployment("shop"), job("task"))
        await world.settled()
        rollout, build = world.timings.rollouts[APPS, "shop", 1], world.timings.builds[BUILDS, "task"]
        assert 0.4 < rollout.seconds < 1.5, "0.5 to 0.7 s, seen on an idle node"
        assert 0.6 < build.seconds < 2.0, "1.1 s, seen on an idle node"
        assert build.started is not None
        settling = world.clock.elapsed() - build.seconds
        assert settling > 1.9, "the Job's verdict comes that much after its container's end"


async def test_the_api_serves_logs_and_changes_as_they_come(tmp_path: Path) -> None:
    script = BuildScript(log=tuple(f"step {number}" for number in range(5)), seconds=4.0)
    async with World(speed=20, namespaces=(BUILDS,)) as world, api(world) as http:
        world.scripts.build("task", script)
        install(world, job("task"))
        await until(world, lambda: "running" in str(world.store.list("Pod", BUILDS)))
        pod = only(world, "Pod", BUILDS)["metadata"]["name"]
        path = f"/api/v1/namespaces/{BUILDS}/pods"
        async with http.stream("GET", f"{path}/{pod}/log", params={"follow": "true"}) as answer:
            lines = [line async for line in answer.aiter_lines()]
        assert lines == list(script.log)
        watch = {"watch": "true", "resourceVersion": "0", "timeoutSeconds": "1"}
        async with http.stream("GET", path, params=watch) as answer:
            first = json.loads(await anext(answer.aiter_lines()))
        assert first["object"]["status"]["phase"] == "Running", "told later than its container's end"


def api(world: World) -> httpx.AsyncClient:
    """An administrator's client."""
    trust = ssl.create_default_context(cadata=world.api.ca_pem)
    headers = {"Authorization": f"Bearer {world.api.token('admin')}"}
    return httpx.AsyncClient(base_url=world.api.url, verify=trust, trust_env=False, headers=headers)
