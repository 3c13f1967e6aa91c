"""A revision that can't become ready is told at once, by its real cause; what served before serves on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from provider.client import PreviewFailed
from tests.cluster.apps import App
from tests.cluster.places import PREVIEWS, Place
from tests.cluster.standin.script import AppScript, commit_of
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.apps import IMPATIENT, merged
from tests.e2e.helpers import refused

pytestmark = pytest.mark.timeout(120)

AT_ONCE = 15.0
"""Seconds: less than half of the rollout's deadline."""
ENV = {"env": [{"name": "TOKEN", "from": "secret:TOKEN"}]}


async def fails(world: ClusterWorld, slug: str, app: App, script: AppScript | None = None) -> PreviewFailed:
    """The failure of a redeploy; it comes at once and changes nothing of what serves."""
    good = await world.app(slug, App(body="good\n"))
    sha = await world.commit(slug, app)
    if script is not None and world.place.standin is not None:
        # Of this revision only: where its pod was ready for a moment, the good one's may have to come anew.
        world.place.standin.scripts.app(
            slug, lambda pod: script if commit_of(pod) == sha else App(body="good\n").app_script()
        )
    began = asyncio.get_running_loop().time()
    failed = await refused(world.deploy(slug, sha))
    assert asyncio.get_running_loop().time() - began < AT_ONCE, "told late"
    assert failed.reply["phase"] == "rollout"
    assert failed.reply["still_serving"] == good.commit_sha
    assert {await world.guest.text(good.url) for _ in range(5)} == {"good\n"}
    assert (await world.client.status(slug=slug)).state == "degraded"
    return failed


def told(failed: PreviewFailed) -> tuple[str, str, str]:
    """Code, reason, whose."""
    return failed.code, failed.reply["reason"], failed.reply["whose"]


SCRIPTED: Mapping[str, tuple[AppScript, tuple[str, str, str], str, str]] = {
    "pull": (
        AppScript(cannot_pull=True),
        ("image_unpullable", "ImagePullBackOff", "platform"),
        "Back-off pulling image",
        "REGISTRY_PULL_ADDRESS",
    ),
    "ill": (
        AppScript(never_ready=503),
        ("deployment_not_ready", "Unhealthy", "user"),
        "statuscode: 503",
        "healthcheck.path",
    ),
}


@pytest.mark.parametrize("name", SCRIPTED)
async def test_a_revision_that_fails(cluster: ClusterWorld, standin: World, name: str) -> None:
    script, expected, words, hint = SCRIPTED[name]
    failed = await fails(cluster, f"fails-{name}", App(spec=IMPATIENT), script)
    assert told(failed) == expected
    assert words in failed.reply["message"]
    assert hint in failed.reply["hint"]


async def test_an_app_that_its_liveness_probe_kills_again_and_again(cluster: ClusterWorld, standin: World) -> None:
    """It never crashes by itself, and is ready for a moment each time."""
    script = AppScript(unhealthy_after=2.0, ready_after=1.5)
    failed = await fails(cluster, "fails-liveness", App(spec=IMPATIENT), script)
    assert failed.code == "deployment_not_ready"
    # Which of them depends on what its probes met last, and on whether it was ready for a moment.
    assert failed.reply["reason"] in {"Unhealthy", "LivenessFailed", "ListensNowhere"}
    assert "Liveness probe failed" in failed.reply["message"]


async def test_an_app_that_crashes(cluster: ClusterWorld) -> None:
    failed = await fails(cluster, "fails-crash", App(crash=7))
    assert told(failed) == ("deployment_not_ready", "CrashLoop", "user")
    assert "code 7" in failed.reply["message"]
    assert failed.reply["log_tail"] == ["giving up"]


async def test_a_bundle_that_somebody_deletes(cluster: ClusterWorld, standin: World) -> None:
    slug = "fails-config"
    good = await cluster.app(slug, App(body="good\n"))
    sha = await cluster.commit(slug, App(spec=ENV, build_slow=True))
    running = asyncio.create_task(cluster.deploy(slug, sha, secret_values={"TOKEN": "t"}))
    await cluster.job(slug, sha)
    held = standin.api.faults.hold(verb="patch", resource="deployments", name=slug, times=1)
    await held.held()
    (bundle,) = [one for one in await cluster.leftovers(slug) if one.startswith("Secret/")]
    await cluster.place.api.delete("Secret", cluster.place.previews, bundle.removeprefix("Secret/"))
    held.release()
    failed = await refused(running)
    assert told(failed) == ("secret_missing", "BundleGone", "user")
    assert bundle.removeprefix("Secret/") in failed.reply["message"]
    assert "deploy again with them" in failed.reply["hint"]
    assert await cluster.guest.text(good.url) == "good\n"


@asynccontextmanager
async def unlimited(place: Place) -> AsyncIterator[None]:
    """Without the limits and the quota that `manifests/base` gives previews: they refuse what no node could take."""
    api, where = place.api, place.previews
    found = [one for kind in ("LimitRange", "ResourceQuota") if (one := await api.get(kind, where, PREVIEWS))]
    for one in found:
        await api.delete(one["kind"], where, PREVIEWS)
    try:
        yield
    finally:
        for one in found:
            await api.create({**one, "metadata": {"name": PREVIEWS, "namespace": where}})


async def test_no_node_takes_it(impatient: ClusterWorld) -> None:
    """On a real cluster by its size, on the stand-in by what its scheduler says."""
    big = {"resources": {"requests": {"memory": "900Gi"}, "limits": {"memory": "901Gi"}}}
    async with unlimited(impatient.place):
        failed = await fails(impatient, "fails-node", App(spec=big))
    assert told(failed) == ("deployment_not_ready", "Unschedulable", "platform")
    assert "Insufficient memory" in failed.reply["message"]
    assert "resources.requests" in failed.reply["hint"]


@asynccontextmanager
async def pod_security(world: ClusterWorld, level: str) -> AsyncIterator[None]:
    """An administrator enforces a level in the previews' namespace."""
    label = "pod-security.kubernetes.io/enforce"
    namespace = await world.place.api.get("Namespace", "", world.place.previews)
    assert namespace is not None
    before = namespace["metadata"]["labels"].get(label)
    await world.place.api.edit("Namespace", "", world.place.previews, {"metadata": {"labels": {label: level}}})
    try:
        yield
    finally:
        await world.place.api.edit("Namespace", "", world.place.previews, {"metadata": {"labels": {label: before}}})


@asynccontextmanager
async def quota(world: ClusterWorld, namespace: str, **hard: str) -> AsyncIterator[None]:
    """An administrator limits a namespace."""
    name = "small"
    metadata = {"name": name, "namespace": namespace}
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}
    await world.place.api.create(body)
    try:
        yield
    finally:
        await world.place.api.delete("ResourceQuota", namespace, name)


async def test_pods_that_pod_security_refuses(cluster: ClusterWorld) -> None:
    slug = "fails-policy"
    good = await cluster.app(slug, App(body="good\n"))
    async with pod_security(cluster, "restricted"):
        failed = await refused(cluster.app(slug, App(body="refused\n")))
    assert told(failed) == ("policy_denied", "PodSecurity", "platform")
    assert "runAsNonRoot" in failed.reply["message"]
    assert "POD_SECURITY" in failed.reply["hint"]
    assert await cluster.guest.text(good.url) == "good\n"


async def test_pods_that_a_quota_refuses(cluster: ClusterWorld) -> None:
    slug = "fails-quota"
    good = await cluster.app(slug, App(body="good\n"))
    async with quota(cluster, cluster.place.previews, pods="0"):
        failed = await refused(cluster.app(slug, App(body="refused\n")))
    assert told(failed) == ("quota_exceeded", "QuotaExceeded", "user")
    assert "exceeded quota: small" in failed.reply["message"]
    assert await cluster.guest.text(good.url) == "good\n"


@pytest.mark.parametrize("own_cluster", [{"ROLLOUT_TIMEOUT": "6"}], indirect=True)
async def test_a_log_that_does_not_come_hides_no_cause(own_cluster: ClusterWorld, standin: World) -> None:
    standin.api.faults.delay(60.0, verb="get", resource="pods/log", name="mute-*")
    failed = await refused(own_cluster.app("mute", App(says="hello", sick=True)))
    assert told(failed) == ("deployment_not_ready", "Unhealthy", "user")
    assert failed.reply["log_tail"] == []


async def test_a_first_deploy_that_fails_gets_no_traffic_and_can_be_looked_at(cluster: ClusterWorld) -> None:
    failed = await refused(cluster.app("fails-first", App(spec=merged(IMPATIENT, {}), sick=True)))
    assert told(failed) == ("deployment_not_ready", "Unhealthy", "user")
    assert failed.reply["still_serving"] is None
    assert await cluster.pods("fails-first") != set()
    assert "Ingress/fails-first" not in await cluster.leftovers("fails-first")
    assert (await cluster.client.status(slug="fails-first")).state == "failed"
