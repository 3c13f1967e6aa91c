"""What users of such systems complain about most (facts.md, last part), by its number there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.cluster.apps import App
from tests.cluster.standin.script import AppScript
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)

LOOKS = 10
AT_ONCE = 15.0
"""Seconds: less than half of the rollout's deadline."""


async def image(world: ClusterWorld, slug: str) -> str:
    """What the preview's Deployment runs."""
    found = await world.place.api.get("Deployment", world.place.previews, slug)
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_complaint_1_success_means_that_every_request_meets_the_new_code(cluster: ClusterWorld) -> None:
    """From the reply on; also when the old pods linger, and when somebody goes back to the old image later."""
    slug, images = "complaint-1", []
    for body in ("one\n", "two\n"):
        done = await cluster.app(slug, App(body=body))
        assert {await cluster.guest.text(done.url) for _ in range(LOOKS)} == {body}
        images.append(await image(cluster, slug))
        assert images[-1].endswith(f"@{done.digest}"), "no tag that could be moved"
    failed = await refused(cluster.app(slug, App(body="three\n", sick=True)))
    assert (failed.reply["ok"], failed.reply["still_serving"]) == (False, done.commit_sha)
    assert {await cluster.guest.text(done.url) for _ in range(LOOKS)} == {"two\n"}
    path = f"/apis/apps/v1/namespaces/{cluster.place.previews}/deployments/{slug}"
    container: dict[str, Any] = {"name": "app", "image": images[0]}
    old = {"spec": {"template": {"spec": {"containers": [container]}}}}
    content = "application/strategic-merge-patch+json"
    await cluster.place.api.call("PATCH", path, old, content=content)

    async def put_back() -> bool:
        return await image(cluster, slug) == images[1] and await cluster.guest.text(done.url) == "two\n"

    await eventually(put_back, what="the commit that the record names serves")


async def test_complaint_12_an_image_that_cannot_be_pulled_ends_the_deploy_and_is_not_retried_for_ever(
    cluster: ClusterWorld, standin: World
) -> None:
    slug = "complaint-12"
    good = await cluster.app(slug, App(body="good\n"))
    sha = await cluster.commit(slug, App())
    standin.scripts.app(slug, AppScript(cannot_pull=True))
    began = asyncio.get_running_loop().time()
    failed = await refused(cluster.deploy(slug, sha))
    assert asyncio.get_running_loop().time() - began < AT_ONCE
    assert (failed.code, failed.reply["whose"]) == ("image_unpullable", "platform")
    assert "REGISTRY_PULL_ADDRESS" in failed.reply["hint"]

    async def nobody_pulls() -> bool:
        pods = await cluster.place.api.list("Pod", cluster.place.previews)
        own = [pod for pod in pods if pod["metadata"].get("labels", {}).get("app") == slug]
        waiting = [
            state["state"]["waiting"]["reason"]
            for pod in own
            for state in pod["status"].get("containerStatuses", [])
            if "waiting" in state["state"]
        ]
        return len(own) == 1 and waiting == []

    await eventually(nobody_pulls, what="the pod that could not be had is gone")
    assert await cluster.guest.text(good.url) == "good\n"
