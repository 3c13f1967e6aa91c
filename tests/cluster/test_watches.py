"""Watches that are cut, expired or late, and requests that fail: the outcome is the same as without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from provider import names
from tests.cluster.apps import App
from tests.cluster.standin.faults import Fault, Faults
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)

KINDS = {"Job", "Deployment", "ReplicaSet", "Pod", "EndpointSlice"}
LOOKS = 10


async def serves(world: ClusterWorld, url: str, body: str) -> None:
    """Everybody sees this, from now on."""
    assert {await world.guest.text(url) for _ in range(LOOKS)} == {body}


async def lives(world: ClusterWorld, slug: str) -> None:
    """The whole life of a preview, as it is without any fault."""
    first = await world.app(slug, App(body="one\n"), extra_env={"A": "1"})
    await serves(world, first.url, "one\n")
    second = await world.app(slug, App(body="two\n"), extra_env={"A": "2"})
    await serves(world, first.url, "two\n")
    failed = await refused(world.app(slug, App(crash=4)))
    assert (failed.code, failed.reply["reason"]) == ("deployment_not_ready", "CrashLoop")
    assert failed.reply["still_serving"] == second.commit_sha
    await serves(world, first.url, "two\n")
    await world.client.teardown(slug)
    await world.nothing_left(slug)


@contextmanager
def at_every_commit(
    standin: World, slug: str, act: Callable[[], None], kinds: set[str] = KINDS, what: str = ""
) -> Iterator[list[str]]:
    """Do something right after each change of the preview's objects; what was seen so."""
    seen: list[str] = []

    def told(event: str, obj: dict[str, Any]) -> None:
        if obj["kind"] in kinds and slug in obj["metadata"]["name"] and what in event:
            seen.append(f"{event} {obj['kind']}")
            act()

    forget = standin.store.subscribe(told)
    try:
        yield seen
    finally:
        forget()


async def test_watches_cut_at_every_point(cluster: ClusterWorld, standin: World) -> None:
    with at_every_commit(standin, "cut", standin.api.cut_watches) as seen:
        await lives(cluster, "cut")
    assert len(seen) > 50


async def test_watches_expired_at_every_point(cluster: ClusterWorld, standin: World) -> None:
    with at_every_commit(standin, "expired", standin.api.expire_watches) as seen:
        await lives(cluster, "expired")
    assert len(seen) > 50


async def test_a_watch_that_was_cut_often_is_back_soon(cluster: ClusterWorld, standin: World) -> None:
    """Breaks add up only while they follow each other: one now and then costs a moment each time."""
    clock = asyncio.get_running_loop().time
    for _ in range(7):
        before, began = _watched(standin, "endpointslices"), clock()
        standin.api.cut_watches("endpointslices")

        async def again(before: int = before) -> bool:
            return _watched(standin, "endpointslices") > before

        await eventually(again, what="it is watched again")
        assert clock() - began < 0.5

        async def lasting(until: float = clock() + 0.3) -> bool:
            return clock() > until

        await eventually(lasting)


async def test_every_connection_is_cut(cluster: ClusterWorld, standin: World) -> None:
    """Also those that requests are on; so it is done at some points only."""
    with at_every_commit(standin, "wires", standin.api.cut_connections, {"Job", "Deployment"}) as seen:
        await lives(cluster, "wires")
    assert "ADDED Job" in seen


async def test_the_api_server_restarts(cluster: ClusterWorld, standin: World) -> None:
    restarts: list[asyncio.Task[None]] = []

    def restart() -> None:
        if all(one.done() for one in restarts) and len(restarts) < 8:
            restarts.append(asyncio.create_task(standin.api.restart()))

    with at_every_commit(standin, "restarted", restart, {"Job", "Deployment"}):
        await lives(cluster, "restarted")
    await asyncio.gather(*restarts)
    assert len(restarts) > 3


LAGGING = (
    "pods", "deployments", "replicasets", "endpointslices", "events", "jobs", "configmaps", "secrets", "services",
    "ingresses", "networkpolicies",
)  # fmt: skip


@pytest.mark.parametrize("resource", LAGGING)
async def test_a_kind_whose_watch_lags(cluster: ClusterWorld, standin: World, resource: str) -> None:
    slug = f"lag-{resource}"
    first = await cluster.app(slug, App(body="one\n"), extra_env={"A": "1"})
    lag = standin.api.faults.slow_watch(0.1, resource=resource)
    try:
        await cluster.app(slug, App(body="two\n"), extra_env={"A": "2"})
        await serves(cluster, first.url, "two\n")
        failed = await refused(cluster.app(slug, App(crash=4), extra_env={"A": "3"}))
        assert (failed.code, failed.reply["reason"]) == ("deployment_not_ready", "CrashLoop")
        await serves(cluster, first.url, "two\n")
        bundles = await _bundles(cluster, slug)
        removed = await cluster.client.teardown(slug)
    finally:
        standin.api.faults.lift(lag)
    assert lag.struck
    assert {name for name in removed.deleted if name.startswith("secret/")} <= {f"secret/{name}" for name in bundles}
    assert f"secret/preview-secrets-{slug}-g2" in removed.deleted, "that of what served"
    await cluster.nothing_left(slug)


async def _bundles(world: ClusterWorld, slug: str) -> set[str]:
    found = await world.place.api.names("Secret", world.place.previews)
    return {name for name in found if name.startswith(f"preview-secrets-{slug}-")}


async def test_everything_lags(cluster: ClusterWorld, standin: World) -> None:
    standin.api.faults.slow_watch(0.05)
    await lives(cluster, "lagging")


async def test_lists_and_watches_fail_for_a_while(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("blind", App(body="seen\n", build_slow=True))
    running = asyncio.create_task(cluster.deploy("blind", sha))
    await cluster.job("blind", sha)
    faults = [
        standin.api.faults.error(verb="list", times=13),
        standin.api.faults.too_many(verb="list", times=13),
        standin.api.faults.error(503, verb="watch", times=13),
        standin.api.faults.cut(verb="watch", times=13),
    ]
    standin.api.expire_watches()
    await serves(cluster, (await running).url, "seen\n")
    assert [fault.struck for fault in faults] == [13, 13, 13, 13]


# ------------------------------------------------------------------------- requests

REQUESTS = [
    ("create", "jobs"),
    ("create", "secrets"),
    ("create", "configmaps"),
    ("update", "configmaps"),
    ("patch", "networkpolicies"),
    ("patch", "services"),
    ("patch", "deployments"),
    ("patch", "ingresses"),
    ("get", "pods/log"),
]
FAULTS: dict[str, Callable[..., Fault]] = {
    "too many": Faults.too_many,
    "error": Faults.error,
    "unavailable": lambda faults, **where: Faults.error(faults, 503, **where),
    "cut before": Faults.cut,
    "cut after": lambda faults, **where: Faults.cut(faults, done=True, **where),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_request_fails_once(cluster: ClusterWorld, standin: World, name: str) -> None:
    """Side by side, a deploy for each kind of request."""

    async def survives(verb: str, resource: str) -> None:
        slug = f"fail-{name}-{verb}-{resource}".replace(" ", "-").replace("/", "-")
        faults: list[Fault] = []

        def arm() -> None:
            named = f"{slug}*" if verb == "patch" else f"*{slug}*" if verb == "get" else "*"
            faults.append(FAULTS[name](standin.api.faults, verb=verb, resource=resource, name=named, times=1))

        if verb not in {"patch", "get"}:
            arm()
            done = await cluster.app(slug, App(body=f"{verb}\n"), extra_env={"A": "1"})
        else:  # after the dry run, which is a patch too
            with at_every_commit(standin, slug, arm, {"Job"}, "ADDED"):
                done = await cluster.app(slug, App(body=f"{verb}\n"), extra_env={"A": "1"})
        await serves(cluster, done.url, f"{verb}\n")
        assert [fault.struck for fault in faults] == [1], slug
        assert await cluster.builds_seen(str(done.job_name)) == 1, slug

    ends = await asyncio.gather(*(survives(*one) for one in REQUESTS), return_exceptions=True)
    assert [end for end in ends if end is not None] == []


@pytest.mark.parametrize("name", FAULTS)
async def test_credentials_get_their_owner_though_that_fails_once(
    cluster: ClusterWorld, standin: World, name: str
) -> None:
    slug = f"owner-{name.replace(' ', '-')}"
    sha = await cluster.commit(slug)
    secret = names.clone_secret(names.build_job(slug, sha))
    fault = FAULTS[name](standin.api.faults, verb="patch", resource="secrets", name=secret, times=1)
    await cluster.deploy(slug, sha)

    async def owned() -> bool:
        found = await cluster.place.api.get("Secret", cluster.place.builds, secret)
        return found is not None and bool(found["metadata"].get("ownerReferences"))

    await eventually(owned)
    assert fault.struck == 1


@pytest.mark.parametrize("name", FAULTS)
async def test_a_teardown_whose_requests_fail_once(cluster: ClusterWorld, standin: World, name: str) -> None:
    slug = f"down-{name.replace(' ', '-')}"
    await cluster.deploy(slug, extra_env={"A": "1"})
    faults = [
        FAULTS[name](standin.api.faults, verb="delete", resource=resource, name=f"*{slug}*", times=1)
        for resource in ("configmaps", "services", "secrets")
    ]
    await cluster.client.teardown(slug)
    await cluster.nothing_left(slug)
    assert faults[0].struck == 1


def _watched(standin: World, resource: str) -> int:
    """How often a watch of it was asked for."""
    asked = standin.api.metrics.requests
    return sum(number for call, number in asked.items() if (call.verb, call.resource) == ("watch", resource))
