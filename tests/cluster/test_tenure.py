"""Claims, times to live and lost branches, from a message on the bus to what is left on the cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from provider.client import PreviewFailed
from provider.demo.processes import clean_environment, run
from tests.cluster.apps import App
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(240)


async def test_only_the_claiming_session_deploys_and_tears_down(cluster: ClusterWorld) -> None:
    first = await cluster.app("claimed", App(body="first\n"), session_id="a")
    await cluster.client.claim("claimed", "a", 600)
    other = await refused(cluster.app("claimed", App(body="other\n"), session_id="b"))
    assert (other.code, other.phase, other.whose, other.details["claim"]["session_id"]) == (
        ("claimed", "admit", "user", "a")
    )
    assert other.still_serving == first.commit_sha
    nobody = await refused(cluster.app("claimed", App(body="nobody's\n")))
    assert "session a until" in nobody.message
    assert (await refused(cluster.client.teardown("claimed"))).code == "claimed"
    assert (await refused(cluster.client.teardown("claimed", session_id="b"))).code == "claimed"
    assert await cluster.guest.text(first.url) == "first\n"
    second = await cluster.app("claimed", App(body="second\n"), session_id="a")
    assert await cluster.guest.text(second.url) == "second\n"
    await cluster.client.attach("claimed", "b")
    assert (await refused(cluster.app("claimed", App(body="late\n"), session_id="a"))).code == "claimed"
    await cluster.client.teardown("claimed", session_id="b")
    await cluster.nothing_left("claimed")


async def test_force_takes_a_claim_over_and_is_audited(cluster: ClusterWorld) -> None:
    await cluster.app("forced", App(body="first\n"))
    await cluster.client.claim("forced", "a", 600)
    async with audit(cluster, "forced") as entries:
        done = await cluster.app("forced", App(body="taken\n"), session_id="b", force=True)
        assert await cluster.guest.text(done.url) == "taken\n"
        status = await cluster.client.status("forced")
        assert status.reply["claim"]["session_id"] == "b"
        await cluster.client.teardown("forced", force=True)

        async def told() -> bool:
            return len([one for one in entries if one["action"] == "claim.forced"]) == 2

        await eventually(told, what="both takeovers are audited")
    forced = [one for one in entries if one["action"] == "claim.forced"]
    assert [(one["by"], one["displaced"]["session_id"]) for one in forced] == [("provision", "a"), ("teardown", "b")]


async def test_a_claim_stops_a_strangers_deploy_that_is_being_built(cluster: ClusterWorld) -> None:
    """It was accepted, and admitted, before the claim; nothing of it is applied yet."""
    good = await cluster.app("midway", App(body="good\n"))
    sha = await cluster.commit("midway", App(body="stranger\n", build_hangs=True))
    running = asyncio.create_task(cluster.deploy("midway", sha, session_id="b"))
    await cluster.job("midway", sha)
    await cluster.client.claim("midway", "a", 600)
    stopped = await refused(running)
    assert (stopped.code, stopped.still_serving) == ("claimed", good.commit_sha)
    await cluster.job_gone("midway", sha)
    mine = await cluster.app("midway", App(body="mine\n"), session_id="a")
    assert mine.url == good.url
    assert await cluster.guest.text(mine.url) == "mine\n"
    await cluster.client.release("midway", "a")


async def test_complaint_2_a_preview_that_nobody_uses_goes(own_cluster: ClusterWorld) -> None:
    told = await session(own_cluster, "s-1")
    await own_cluster.deploy("unused", ttl_seconds=8, session_id="s-1")
    kept = await own_cluster.deploy("kept", ttl_seconds=0)
    await removed(own_cluster, "unused")
    texts = [json.loads((await told.next_msg(timeout=10)).data)["payload"]["text"] for _ in range(2)]
    assert "is removed at" in texts[0]
    assert "was removed" in texts[1]
    assert (await own_cluster.guest.get(kept.url)).status_code == 200


LOST = {"BRANCH_CHECK_SECONDS": "1", "BRANCH_GRACE_SECONDS": "2"}


@pytest.mark.parametrize("own_cluster", [LOST], indirect=True)
async def test_complaint_2_and_complaint_11_a_lost_branch_and_an_outage(own_cluster: ClusterWorld) -> None:
    """The host is away: nothing goes. It is back and says that the branch is gone: its preview goes, no other."""
    for slug in ("astray", "stays"):
        await own_cluster.deploy(slug)
        await own_cluster.git.commit(f"acme/{slug}", "another", {"a": "1"})
    own_cluster.git.fail_with = 404
    asked = own_cluster.git.requests

    async def asked_again() -> bool:
        return own_cluster.git.requests > asked + 8

    await eventually(asked_again, timeout=60, what="the branches were asked for some times")
    folder = own_cluster.git.root / "acme/astray.git"
    env = clean_environment(own_cluster.folder)
    status, said = await run("git", f"--git-dir={folder}", "update-ref", "-d", "refs/heads/main", env=env, timeout=10)
    assert status == 0, said
    for slug in ("astray", "stays"):
        assert (await own_cluster.client.status(slug)).state == "ready"
        assert (await own_cluster.client.status(slug)).reply["branch_gone_at"] is None
    own_cluster.git.fail_with = None
    await removed(own_cluster, "astray")
    assert (await own_cluster.client.status("stays")).state == "ready"


# ------------------------------------------------------------------------------- listening


async def removed(world: ClusterWorld, slug: str) -> None:
    """Wait until the preview is gone, record and all."""

    async def gone() -> bool:
        try:
            await world.client.status(slug)
        except PreviewFailed as failed:
            return failed.code == "not_found"
        return False

    await eventually(gone, timeout=60, what=f"{slug} is removed")
    await world.nothing_left(slug)


async def session(world: ClusterWorld, session_id: str) -> Any:
    """What a session is told, from now on."""
    heard = await world.client.nats.subscribe(f"x1.session.{session_id}.input")
    await world.client.nats.flush()
    return heard


@asynccontextmanager
async def audit(world: ClusterWorld, slug: str) -> AsyncIterator[list[dict[str, Any]]]:
    """What is audited of a preview while the block runs."""
    entries: list[dict[str, Any]] = []

    async def arrived(message: Any) -> None:
        entry = json.loads(message.data)
        if entry.get("slug") == slug:
            entries.append(entry)

    heard = await world.client.nats.subscribe("x1.audit.preview", cb=arrived)
    await world.client.nats.flush()
    try:
        yield entries
    finally:
        await heard.unsubscribe()
