"""What a deploy costs the API server: exact budgets by its path, watches shared by all, connections kept.

Growth fails here. A number that has to change is changed here, with the reason in the commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from provider.pipeline.line_writer import LAZY_SECONDS
from tests.cluster.apps import App
from tests.cluster.places import USER
from tests.cluster.standin.script import BuildScript
from tests.cluster.standin.world import World
from tests.cluster.world import INSTALLATION, ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)

WATCHES = 13
QUIET = 0.4
"""Seconds without a request, after which none follows."""

DRY_RUN = Counter({"patch networkpolicies": 1, "patch services": 1, "patch deployments": 1, "patch ingresses": 1})
APPLY = DRY_RUN
BUILD = Counter({"create secrets": 1, "create jobs": 1, "patch secrets": 1, "get pods/log": 1})
FIRST_ANCHOR = Counter({"create configmaps": 1})
NEXT_ANCHOR = Counter({"update configmaps": 1})
ENV = {"A": "1"}
MOST_WRITES = 25
"""Writes of records on the bus for a deploy."""


def asked(standin: World) -> Counter[str]:
    """The provider's requests up to now; its watches are counted on their own."""
    found: Counter[str] = Counter()
    for call, number in standin.api.metrics.requests.items():
        if call.user == USER and call.verb not in {"watch", "list"}:
            found[f"{call.verb} {call.resource}{'/' * bool(call.subresource)}{call.subresource}"] += number
    return found


@asynccontextmanager
async def costs(standin: World, expected: Counter[str]) -> AsyncIterator[None]:
    """What is done inside costs exactly that, with the cleaning up that follows the answer."""
    before = await _quiet(standin)
    yield
    spent = await _quiet(standin) - before
    if spent != expected:
        raise AssertionError(f"too much: {dict(spent - expected)}; expected too: {dict(expected - spent)}")


async def _quiet(standin: World) -> Counter[str]:
    """What was asked, when nothing more comes: some of it follows the answer."""
    clock = asyncio.get_running_loop().time
    seen, since = asked(standin), clock()

    async def nothing_more() -> bool:
        nonlocal seen, since
        if (present := asked(standin)) != seen:
            seen, since = present, clock()
        return clock() - since > QUIET

    await eventually(nothing_more)
    return seen


async def test_a_first_deploy(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("cost-first")
    budget = DRY_RUN + BUILD + FIRST_ANCHOR + APPLY
    assert budget.total() <= 14
    async with costs(standin, budget):
        await cluster.deploy("cost-first", sha)


async def test_a_first_deploy_with_secrets(cluster: ClusterWorld, standin: World) -> None:
    await cluster.deploy("cost-key", extra_env=ENV)  # the namespace's key is made once
    sha = await cluster.commit("cost-secrets")
    secrets = Counter({"create secrets": 2, "delete secrets": 1}) + NEXT_ANCHOR
    async with costs(standin, DRY_RUN + BUILD + FIRST_ANCHOR + APPLY + secrets):
        await cluster.deploy("cost-secrets", sha, extra_env=ENV)


async def test_the_same_commit_again(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("cost-again")
    await cluster.deploy("cost-again", sha)
    budget = NEXT_ANCHOR + APPLY
    assert budget.total() <= 8
    async with costs(standin, budget):
        await cluster.deploy("cost-again", sha)


async def test_the_same_commit_again_with_secrets(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("cost-same")
    await cluster.deploy("cost-same", sha, extra_env=ENV)
    budget = NEXT_ANCHOR + APPLY + Counter({"create secrets": 1, "delete secrets": 1})
    assert budget.total() <= 8
    async with costs(standin, budget):
        await cluster.deploy("cost-same", sha, extra_env=ENV)


async def test_the_same_commit_again_with_another_secret(cluster: ClusterWorld, standin: World) -> None:
    """The cluster was asked whether it takes these objects; what a secret's value is, it need not be asked."""
    sha = await cluster.commit("cost-rotated")
    await cluster.deploy("cost-rotated", sha, extra_env=ENV)
    secrets = Counter({"create secrets": 2, "delete secrets": 2})
    async with costs(standin, NEXT_ANCHOR + NEXT_ANCHOR + APPLY + secrets):
        await cluster.deploy("cost-rotated", sha, extra_env={"A": "2"})


async def test_a_redeploy(cluster: ClusterWorld, standin: World) -> None:
    await cluster.deploy("cost-re")
    sha = await cluster.commit("cost-re", App(body="new\n"))
    async with costs(standin, DRY_RUN + BUILD + NEXT_ANCHOR + APPLY):
        await cluster.deploy("cost-re", sha)


async def test_a_failed_build(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("cost-broken", App(build_exit=1))
    # Nothing is kept of it, so the cluster is asked whether it left an anchor.
    async with costs(standin, DRY_RUN + BUILD + Counter({"get configmaps": 1})):
        await refused(cluster.deploy("cost-broken", sha))


async def test_a_redeploy_that_crashes_and_is_put_back(cluster: ClusterWorld, standin: World) -> None:
    await cluster.deploy("cost-crash")
    sha = await cluster.commit("cost-crash", App(crash=1))
    put_back = NEXT_ANCHOR + APPLY + Counter({"get pods/log": 1})
    of_the_app = APPLY - Counter({"patch ingresses": 1})  # the URL's traffic is left as it is until the app is ready
    async with costs(standin, DRY_RUN + BUILD + NEXT_ANCHOR + of_the_app + put_back):
        await refused(cluster.deploy("cost-crash", sha))


async def test_a_teardown(cluster: ClusterWorld, standin: World) -> None:
    await cluster.deploy("cost-gone")
    kinds = ("configmaps", "networkpolicies", "services", "deployments", "ingresses", "jobs")
    async with costs(standin, Counter({"get configmaps": 1} | {f"delete {kind}": 1 for kind in kinds})):
        await cluster.client.teardown("cost-gone")


async def test_looking_costs_nothing(cluster: ClusterWorld, standin: World) -> None:
    await cluster.deploy("cost-look")
    async with costs(standin, Counter()):
        await cluster.client.status(slug="cost-look")
        await cluster.client.list(repo="acme/cost-look")


async def test_connections_are_kept(cluster: ClusterWorld, standin: World) -> None:
    """A log's stream may end its connection: one new one a deploy at most."""
    for number in range(2):
        await cluster.deploy(f"cost-tls-{number}")
    before = standin.api.metrics.connections
    for number in range(2, 7):
        await cluster.deploy(f"cost-tls-{number}")
    assert standin.api.metrics.connections - before <= 5


async def test_watches_stay_the_same_however_much_is_under_way(cluster: ClusterWorld, standin: World) -> None:
    begun: list[str] = []
    quiet = standin.api.metrics.watches
    assert quiet > 0
    assert quiet % WATCHES == 0, "so many for each provider that is there"
    for crowd in (1, 10, 50):
        slugs = [f"crowd-{number}" for number in range(len(begun), crowd)]
        shas = [await cluster.commit(slug) for slug in slugs]
        standin.scripts.build("preview-build-crowd-*", BuildScript(fetch=False, hang=True))
        asking = zip(slugs, shas, strict=True)
        fields: dict[str, Any] = {"wait": "accepted", "installation_id": INSTALLATION}
        await asyncio.gather(*(cluster.deploy(slug, sha, **fields) for slug, sha in asking))
        begun += slugs

        async def building(crowd: int = crowd) -> bool:
            jobs = await cluster.place.api.names("Job", cluster.place.builds)
            return len([job for job in jobs if job.startswith("preview-build-crowd-")]) == crowd

        await eventually(building, timeout=60, what=f"{crowd} builds are under way")
        assert standin.api.metrics.watches == quiet, f"at {crowd}"
    await asyncio.gather(*(cluster.client.teardown(slug) for slug in begun))


async def test_what_a_deploy_writes_on_the_bus(own_cluster: ClusterWorld) -> None:
    """However long the build takes; alone, and with nine others beside it."""
    async with _stored(own_cluster) as written:
        alone = await own_cluster.commit("writes-alone", App(build_slow=True))
        await own_cluster.deploy("writes-alone", alone)
        await _nothing_more(written)
        assert written.total() <= MOST_WRITES, written
        assert written["line"] <= 4, written
        written.clear()
        slugs = [f"writes-{number}" for number in range(10)]
        shas = [await own_cluster.commit(slug) for slug in slugs]
        await asyncio.gather(*map(own_cluster.deploy, slugs, shas))
        await _nothing_more(written)
        assert written.total() <= MOST_WRITES * len(slugs), written


@asynccontextmanager
async def _stored(world: ClusterWorld) -> AsyncIterator[Counter[str]]:
    """What the buckets take while the block runs, by kind; heartbeats are nobody's.

    What is published is more: a request that is repeated tries to make a record that is there, and is refused.
    """
    written: Counter[str] = Counter()

    async def count(message: Msg) -> None:
        kind = message.subject.split(".")[2]
        written[kind] += kind != "instance"

    jetstream = world.client.nats.jetstream()
    streams = [str(stream.config.name) for stream in await jetstream.streams_info()]
    buckets = [stream.removeprefix("KV_") for stream in streams if stream.startswith("KV_")]
    new = DeliverPolicy.NEW
    counting = [
        await jetstream.subscribe(f"$KV.{bucket}.>", cb=count, ordered_consumer=True, deliver_policy=new)
        for bucket in buckets
    ]
    try:
        yield written
    finally:
        for one in counting:
            await one.unsubscribe()


async def _nothing_more(written: Counter[str]) -> None:
    """Wait until nothing is written any more: the place in the line is given back a little late."""
    clock = asyncio.get_running_loop().time
    seen, since = written.total(), clock()

    async def quiet() -> bool:
        nonlocal seen, since
        if written.total() != seen:
            seen, since = written.total(), clock()
        return clock() - since > 2 * LAZY_SECONDS

    await eventually(quiet)
