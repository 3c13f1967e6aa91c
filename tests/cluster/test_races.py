"""What meets in an unlucky order: a restart and a new preview, a newer deploy and a restore, two installations."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from provider.client import Deployed, PreviewFailed
from provider.models import now
from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.test_fencing import stopped_in
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)
GRACE = 1.0
"""Seconds in which whatever a mistake would do has to have shown."""


def secret(world: ClusterWorld, slug: str, name: str) -> dict[str, Any]:
    """A bundle of that preview that nobody needs."""
    notes = {"preview.x1agent.io/generation": "0", "preview.x1agent.io/platform-id": world.settings["PLATFORM_ID"]}
    labels = {"app": slug, "app.kubernetes.io/managed-by": "x1-preview-provider"}
    metadata = {"name": name, "namespace": world.place.previews, "labels": labels, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


async def test_what_is_new_while_a_provider_puts_things_right_is_not_swept(
    own_cluster: ClusterWorld, standin: World
) -> None:
    await own_cluster.deploy("older")
    await asyncio.sleep(GRACE)  # else it is taken up again, and tidied at its own end
    await own_cluster.provider.stop()
    await own_cluster.place.api.create(secret(own_cluster, "older", "held-up"))
    held = standin.api.faults.hold(verb="delete", resource="secrets", name="held-up")
    await own_cluster.provider.start()
    await held.held()
    fresh = await own_cluster.app("fresh", App(body="fresh\n"))
    standin.api.faults.lift(held)
    await asyncio.sleep(GRACE)
    assert "ConfigMap/fresh.anchor" in await own_cluster.leftovers("fresh")
    assert await own_cluster.guest.text(fresh.url) == "fresh\n"


async def test_a_newer_deploy_with_secrets_does_not_keep_the_last_good_from_coming_back(
    own_cluster: ClusterWorld,
) -> None:
    good = await own_cluster.app("behind", App(body="good\n"))
    first = asyncio.create_task(own_cluster.app("behind", App(body="bad\n", sick=True)))

    async def applied() -> bool:
        found = await own_cluster.place.api.get("Deployment", own_cluster.place.previews, "behind")
        return found is not None and found["metadata"]["generation"] > 1

    await eventually(applied)
    newer = await own_cluster.commit("behind", App(body="newer\n", build_exit=3))
    failed = await refused(own_cluster.deploy("behind", newer, extra_env={"A": "1"}))
    assert (failed.code, failed.reply["still_serving"]) == ("kaniko_build_failed", good.commit_sha)
    await refused(first)
    found = await own_cluster.place.api.get("Deployment", own_cluster.place.previews, "behind")
    assert found is not None
    assert found["metadata"]["annotations"]["preview.x1agent.io/commit-sha"] == good.commit_sha


@pytest.mark.parametrize("own_cluster", [{"PLATFORM_ID": "other"}], indirect=True)
async def test_another_installations_secrets_are_not_touched(cluster: ClusterWorld, own_cluster: ClusterWorld) -> None:
    await cluster.deploy("theirs", extra_env={"A": "1"})
    before = await cluster.leftovers("theirs")
    assert (await own_cluster.client.teardown("theirs")).deleted == ()
    assert await cluster.leftovers("theirs") == before
    failed = await refused(own_cluster.app("theirs", App()))
    assert failed.code == "slug_taken"
    await asyncio.sleep(GRACE)
    assert await cluster.leftovers("theirs") >= before


async def test_whoever_joined_a_deploy_that_is_cancelled_gets_one_all_the_same(cluster: ClusterWorld) -> None:
    """They want the same, so one of them deploys for all; that the first was stopped is no answer to them."""
    began, leader_id, *ids = now(), *(f"given-up-{number}" for number in range(3))
    sha = await cluster.commit("given-up", App(body="wanted\n", build_slow=True))
    leader = asyncio.create_task(refused(cluster.deploy("given-up", sha, deploy_id=leader_id)))
    await has_joined(cluster, leader_id, None)
    others = []
    for deploy_id in ids:
        others.append(asyncio.create_task(cluster.deploy("given-up", sha, deploy_id=deploy_id)))
        await has_joined(cluster, deploy_id, leader_id)
    await cluster.client.cancel(deploy_id=leader_id)
    assert (await leader).code == "cancelled"
    done = await asyncio.gather(*others)
    assert [one.commit_sha for one in done] == [sha, sha]
    assert await cluster.guest.text(done[0].url) == "wanted\n"
    told = [event async for event in cluster.client.past_events("given-up", since=began)]
    assert len(told) < 100, "nobody went round in circles"


async def has_joined(world: ClusterWorld, deploy_id: str, leader: str | None) -> None:
    """Wait until a deploy builds, or has joined that one."""

    async def there() -> bool:
        with suppress(PreviewFailed):
            record = (await world.client.status(deploy_id=deploy_id)).reply
            return bool(record["joins"] == leader if leader is not None else record["phase"] == "build")
        return False

    await eventually(there)


async def test_a_stale_provider_adds_nothing_that_the_newer_revision_does_without(
    own_cluster: ClusterWorld, standin: World
) -> None:
    headers = App(build_slow=True, spec={"ingress": {"additionalHeaders": {"X-Stale": "1"}}})
    async with (
        stopped_in(own_cluster, standin, "without", headers, [("patch", "configmaps")]) as (slug,),
        own_cluster.second_provider(),
    ):
        await own_cluster.app(slug, App(body="newer\n"))

    async def gone() -> bool:
        return f"ConfigMap/{slug}.response-headers" not in await own_cluster.leftovers(slug)

    await asyncio.sleep(GRACE)
    await eventually(gone)


async def test_a_stale_provider_brings_nothing_back_that_the_newer_revision_dropped(
    own_cluster: ClusterWorld, standin: World
) -> None:
    """It was there when the older one began, which applies it over the version that it knows."""
    slug, dropped = "dropped-configmaps", "ConfigMap/dropped-configmaps.response-headers"
    await own_cluster.app(slug, App(spec={"ingress": {"additionalHeaders": {"X-Stale": "0"}}}))
    headers = App(build_slow=True, spec={"ingress": {"additionalHeaders": {"X-Stale": "1"}}})
    async with (
        stopped_in(own_cluster, standin, "dropped", headers, [("patch", "configmaps")]),
        own_cluster.second_provider(),
    ):
        await own_cluster.app(slug, App(body="newer\n"))
        assert dropped not in await own_cluster.leftovers(slug)

    async def gone() -> bool:
        return dropped not in await own_cluster.leftovers(slug)

    await asyncio.sleep(GRACE)
    await eventually(gone)


async def test_two_that_want_one_host_at_once_do_not_both_get_it(own_cluster: ClusterWorld, standin: World) -> None:
    held = standin.api.faults.hold(verb="patch", resource="services", name="rival-*", times=2)
    both = [asyncio.create_task(own_cluster.deploy(f"rival-{one}", alias_hosts=["both.example.com"])) for one in "ab"]

    async def checked() -> bool:
        return held.holding == 2

    await eventually(checked)
    standin.api.faults.lift(held)
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    (failed,) = [one for one in outcomes if isinstance(one, PreviewFailed)]
    assert (failed.code, failed.reply["reason"]) == ("invalid_request", "HostTaken")
    assert len([one for one in outcomes if isinstance(one, Deployed)]) == 1


async def test_what_somebody_else_changed_last_is_removed_all_the_same(cluster: ClusterWorld, standin: World) -> None:
    """An ingress controller writes its status whenever it likes, and a watch shows it later."""
    slow = standin.api.faults.slow_watch(60.0, resource="ingresses")
    running = asyncio.create_task(cluster.app("written", App(crash=4)))

    async def there() -> bool:
        return await cluster.place.api.get("Ingress", cluster.place.previews, "written") is not None

    await eventually(there)
    path = f"/apis/networking.k8s.io/v1/namespaces/{cluster.place.previews}/ingresses/written"
    note = {"metadata": {"annotations": {"somebody": "else"}}}
    await cluster.place.api.call("PATCH", path, note, content="application/merge-patch+json")
    await refused(running)
    assert not await there(), "what never got ready gets no traffic"
    standin.api.faults.lift(slow)


async def test_a_deploy_after_a_teardown_that_was_cut_off_is_not_torn_down(
    own_cluster: ClusterWorld, standin: World
) -> None:
    for slug in ("cut-a", "cut-b"):
        await own_cluster.deploy(slug)
    held = standin.api.faults.hold(verb="delete", resource="configmaps")
    leaving = [asyncio.create_task(own_cluster.client.teardown(slug)) for slug in ("cut-a", "cut-b")]

    async def both() -> bool:
        return held.holding == 2

    await eventually(both)
    await own_cluster.provider.kill()
    standin.api.faults.lift(held)
    held = standin.api.faults.hold(verb="delete", resource="configmaps", name="cut-a*")
    await own_cluster.provider.start()
    await held.held()
    for one in leaving:
        one.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    again = await own_cluster.app("cut-b", App(body="again\n"))
    standin.api.faults.lift(held)
    await own_cluster.nothing_left("cut-a")
    await asyncio.sleep(GRACE)
    assert await own_cluster.guest.text(again.url) == "again\n"


async def test_what_could_not_be_put_back_is_later(own_cluster: ClusterWorld, standin: World) -> None:
    good = await own_cluster.app("later", App(body="good\n"))
    checks = [{"path": "/", "body_contains": "good"}]
    bad = await own_cluster.commit("later", App(body="bad\n"))
    running = asyncio.create_task(own_cluster.deploy("later", bad, acceptance=checks))

    async def applied() -> bool:
        found = await own_cluster.place.api.get("Deployment", own_cluster.place.previews, "later")
        return found is not None and found["metadata"]["generation"] > 1

    await eventually(applied)
    fault = standin.api.faults.error(403, verb="patch", resource="deployments")
    failed = await refused(running)
    assert any("tried again" in warning for warning in failed.reply["warnings"])
    standin.api.faults.lift(fault)

    async def back() -> bool:
        return await own_cluster.guest.text(good.url) == "good\n"

    await eventually(back)
    status = await own_cluster.client.status(slug="later")
    assert (status.state, status.reply["failure"]["code"]) == ("degraded", "verify_failed")
