"""A cluster that is away: new builds wait for it and say so; one at a time finds out whether it is back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.cluster.standin.world import World
from tests.cluster.test_limits import with_settings
from tests.cluster.watching import Json, deploying
from tests.cluster.world import ClusterWorld

pytestmark = pytest.mark.timeout(120)

CROWD = 8


def waits(event: Json) -> bool:
    return (event["type"], event["data"].get("waiting_for")) == ("warning", "cluster or engine")


@with_settings(BUILDS_PER_REPOSITORY="8")
async def test_builds_wait_while_the_api_fails_and_go_on_when_it_is_back(
    own_cluster: ClusterWorld, standin: World
) -> None:
    slugs = [f"away-{number}" for number in range(CROWD)]
    shas = [await own_cluster.commit(slug) for slug in slugs]
    fault = standin.api.faults.error(503, verb="create", resource="jobs")
    async with AsyncExitStack() as stack:
        asked = [deploying(own_cluster, slug, sha) for slug, sha in zip(slugs, shas, strict=True)]
        askers = [await stack.enter_async_context(one) for one in asked]
        await asyncio.gather(*(asker.event(waits) for asker in askers))
        first = CROWD + 3  # everybody who was under way by then failed once; then they wait
        assert fault.struck <= first + 4
        struck = fault.struck
        await asyncio.sleep(2.0)
        assert fault.struck - struck <= 3, "one at a time is let through, after pauses"
        standin.api.faults.lift(fault)
        answers = await asyncio.gather(*(asker.answer() for asker in askers))
    assert [answer["ok"] for answer in answers] == [True] * CROWD
