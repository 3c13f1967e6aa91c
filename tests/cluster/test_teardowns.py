"""A teardown takes what was there when it was asked for, and nothing of a deploy that was accepted after it."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.watching import asked, deploying
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(120)

ENV = {"A": "1"}
STALE_SECONDS = 3.0
"""In which whatever a late teardown still does has to have shown."""


async def test_one_that_is_tried_again_leaves_a_newer_deploy(own_cluster: ClusterWorld, standin: World) -> None:
    """Of what is not there, to be clean before the first deploy; the cluster fails it some times."""
    sha = await own_cluster.commit("afresh")
    fault = standin.api.faults.error(500, verb="get", resource="configmaps", name="afresh*", times=3)

    async def struck() -> bool:
        return fault.struck > 0

    async with asked(own_cluster, "teardown", slug="afresh") as teardown:
        await eventually(struck)
        done = await own_cluster.deploy("afresh", sha, extra_env=ENV)
        assert (await teardown.answer())["ok"]
    assert "A=1\n" in await own_cluster.guest.text(done.url, "/cgi-bin/env")


async def test_one_that_sleeps_leaves_what_another_provider_deployed(own_cluster: ClusterWorld, standin: World) -> None:
    slug, pid = "asleep", own_cluster.provider.pid
    assert pid is not None
    sha = await own_cluster.commit(slug)
    held = standin.api.faults.hold(verb="get", resource="configmaps", name=f"{slug}*", times=1)
    try:
        async with asked(own_cluster, "teardown", slug=slug) as leaving:
            await held.held()
            os.kill(pid, signal.SIGSTOP)
            async with own_cluster.second_provider():
                done = await own_cluster.deploy(slug, sha, extra_env=ENV)
                before = await own_cluster.leftovers(slug)
                standin.api.faults.lift(held)
                os.kill(pid, signal.SIGCONT)
                assert (await leaving.answer())["ok"]
                await asyncio.sleep(STALE_SECONDS)
                assert await own_cluster.leftovers(slug) == before
                assert "A=1\n" in await own_cluster.guest.text(done.url, "/cgi-bin/env")
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_one_whose_watch_lags_leaves_a_newer_deploy(own_cluster: ClusterWorld, standin: World) -> None:
    """The anchor says that a newer deploy has the preview; the watch does not say so yet."""
    async with own_cluster.second_provider():
        for number in range(8):  # until one gets the teardown, and the other the deploy
            if await _teardown_beside(own_cluster, standin, f"behind-{number}"):
                return
    raise AssertionError("one provider got both, each time")


async def _teardown_beside(world: ClusterWorld, standin: World, slug: str) -> bool:
    """Tear down at one provider while the other deploys; False: one of them got both, and does them in turn."""
    await world.app(slug, App(body="one\n"))
    sha = await world.commit(slug, App(body="two\n", slow=True))
    lag = standin.api.faults.slow_watch(20.0, resource="configmaps")
    hold = standin.api.faults.hold(verb="get", resource="configmaps", name=f"{slug}*", times=1)

    async def applied() -> None:
        while sha not in str(await world.place.api.get("Ingress", world.place.previews, slug)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    try:
        async with asked(world, "teardown", slug=slug) as teardown:
            await hold.held()
            async with deploying(world, slug, sha) as asker:
                try:
                    await asyncio.wait_for(applied(), 4.0)
                except TimeoutError:
                    return False
                standin.api.faults.lift(hold)
                assert (await teardown.answer())["ok"]
                standin.api.faults.lift(lag)
                answer = await asker.answer()
        assert answer["ok"], answer
        assert await world.guest.text(answer["url"]) == "two\n"
    finally:
        standin.api.faults.lift(hold)
        standin.api.faults.lift(lag)
    return True


async def test_what_an_operator_named_alike_stays(cluster: ClusterWorld) -> None:
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "alike.extra", "namespace": cluster.place.previews},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": "extra.example.com"}]},
    }
    await cluster.place.api.create(body)
    await cluster.app("alike", App())
    removed = await cluster.client.teardown("alike")
    assert "ingress/alike" in removed.deleted
    assert await cluster.place.api.get("Ingress", cluster.place.previews, "alike.extra") is not None
    await cluster.place.api.delete("Ingress", cluster.place.previews, "alike.extra")
