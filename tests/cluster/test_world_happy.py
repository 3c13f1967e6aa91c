"""The world when all goes well: builds end with an image in the registry, rollouts with an answer at the ingress."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

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
    only,
    roll,
    service,
    sources,
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
