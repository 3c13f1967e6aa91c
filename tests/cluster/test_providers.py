"""Several providers on one cluster: whatever happens to one, others go on with its work, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from provider.demo.processes import Server
from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.watching import Asker, asked, deploying
from tests.cluster.world import INSTALLATION, ClusterWorld
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(120)

SLOW = App(body="slow\n", build_slow=True)


@pytest.fixture
async def second(own_cluster: ClusterWorld) -> AsyncIterator[Server]:
    """Another provider beside that of `own_cluster`."""
    async with own_cluster.second_provider() as server:
        yield server


async def owner(world: ClusterWorld, asker: Asker) -> str:
    """The name of the provider that runs the deploy."""
    status = await world.client.status(deploy_id=asker.deploy_id)
    return str(status.reply["owner"]["instance"])


async def process(world: ClusterWorld, second: Server, asker: Asker) -> Server:
    """The provider that runs the deploy."""
    return second if await owner(world, asker) == "second" else world.provider


async def built_once(world: ClusterWorld, slug: str, sha: str, asker: Asker) -> None:
    """The asker got one good answer, from one build."""
    answer = await asker.answer()
    assert (answer["ok"], answer.get("commit_sha")) == (True, sha), answer
    job = await world.job(slug, sha)
    assert await world.builds_seen(job["metadata"]["name"]) == 1
    assert await world.guest.text(answer["url"]) == "slow\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_another_goes_on_with_the_build_of_one_that_ends(
    own_cluster: ClusterWorld, second: Server, number: signal.Signals
) -> None:
    slug = f"left-{number.name.lower()}"
    sha = await own_cluster.commit(slug, SLOW)
    async with deploying(own_cluster, slug, sha) as asker:
        await asker.line("begun")
        first = await process(own_cluster, second, asker)
        began = time.monotonic()
        await (first.kill() if number is signal.SIGKILL else first.stop())
        assert time.monotonic() - began < 10
        await built_once(own_cluster, slug, sha, asker)
        assert await process(own_cluster, second, asker) is not first


async def test_it_ends_in_time_though_the_cluster_does_not_answer(
    own_cluster: ClusterWorld, standin: World, second: Server
) -> None:
    slug = "hanging"
    sha = await own_cluster.commit(slug, SLOW)
    async with deploying(own_cluster, slug, sha) as asker:
        await asker.line("begun")
        held = standin.api.faults.hold(verb="patch", resource="services", name=slug, times=1)
        await held.held()
        first = await process(own_cluster, second, asker)
        began = time.monotonic()
        await first.stop()
        assert time.monotonic() - began < 10
        held.release()
        await built_once(own_cluster, slug, sha, asker)


async def test_one_that_was_only_stopped_changes_nothing_afterwards(own_cluster: ClusterWorld, second: Server) -> None:
    sha = await own_cluster.commit("slept", SLOW)
    async with deploying(own_cluster, "slept", sha) as asker:
        await asker.line("begun")
        sleeper = await process(own_cluster, second, asker)
        pid = sleeper.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            await built_once(own_cluster, "slept", sha, asker)
            assert await process(own_cluster, second, asker) is not sleeper
        finally:
            os.kill(pid, signal.SIGCONT)

        async def knows() -> bool:
            return "lease.lapsed" in sleeper.log.read_text()

        await eventually(knows, what="it notices that it was taken for dead")
        await built_once(own_cluster, "slept", sha, asker)
    # And it works again.
    for _ in range(4):
        await own_cluster.deploy("slept", sha)
    await own_cluster.client.teardown("slept")
    await own_cluster.nothing_left("slept")


async def test_whichever_is_asked_stops_a_deploy(own_cluster: ClusterWorld, second: Server) -> None:
    """Requests go to any of them: out of four, some reach the one that does not run the deploy."""
    for number in range(4):
        slug = f"stopped-{number}"
        sha = await own_cluster.commit(slug, SLOW)
        async with deploying(own_cluster, slug, sha) as asker:
            await asker.line("begun")
            cancelled = await own_cluster.client.cancel(deploy_id=asker.deploy_id)
            assert cancelled.cancelled
            answer = await asker.answer()
            assert (answer["ok"], answer["code"]) == (False, "cancelled")
            await own_cluster.job_gone(slug, sha)


async def test_a_teardown_ends_a_deploy_that_another_runs(own_cluster: ClusterWorld, second: Server) -> None:
    for number in range(2):
        slug = f"elsewhere-{number}"
        sha = await own_cluster.commit(slug, SLOW)
        async with deploying(own_cluster, slug, sha) as asker:
            await asker.line("begun")
            async with asked(own_cluster, "teardown", slug=slug) as teardown:
                assert (await teardown.answer())["ok"]
                assert (await asker.answer())["code"] == "cancelled"
            await own_cluster.nothing_left(slug)


async def test_the_same_build_is_shared_though_the_first_asker_was_superseded(
    own_cluster: ClusterWorld, second: Server
) -> None:
    for number in range(2):
        slug = f"shared-{number}"
        sha = await own_cluster.commit(slug, SLOW)
        async with deploying(own_cluster, slug, sha) as older:
            await older.line("begun")
            async with deploying(own_cluster, slug, sha, extra_env={"A": "1"}) as newer:
                assert (await older.answer())["code"] == "superseded"
                await built_once(own_cluster, slug, sha, newer)


@asynccontextmanager
async def ended_in_admit(
    world: ClusterWorld, standin: World, second: Server, slug: str, number: signal.Signals
) -> AsyncIterator[Asker]:
    """A deploy with a secret whose provider ends before it has a bundle; the other one sees no new Secret meanwhile."""
    app = App(spec={"env": [{"name": "TOKEN", "from": "secret:API_TOKEN"}]})
    sha = await world.commit(slug, app)
    standin.api.faults.slow_watch(60, resource="secrets")
    held = standin.api.faults.hold(verb="patch", resource="networkpolicies", name=f"{slug}*", times=1)
    async with deploying(world, slug, sha, secret_values={"API_TOKEN": "given"}) as asker:
        await held.held()
        first = await process(world, second, asker)
        await (first.kill() if number is signal.SIGKILL else first.stop())
        yield asker


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_secrets_that_another_staged_reach_the_app(
    own_cluster: ClusterWorld, standin: World, second: Server, number: signal.Signals
) -> None:
    slug = f"inherited-{number.name.lower()}"
    async with ended_in_admit(own_cluster, standin, second, slug, number) as asker:
        answer = await asker.answer()
    assert answer["ok"], answer
    assert "TOKEN=given\n" in await own_cluster.guest.text(answer["url"], "/cgi-bin/env")
    staged = [
        name for name in await own_cluster.place.api.names("Secret", own_cluster.place.previews) if "staged" in name
    ]
    assert staged == []


async def test_without_the_secrets_that_were_staged_nothing_is_deployed(
    own_cluster: ClusterWorld, standin: World, second: Server
) -> None:
    hold = standin.api.faults.hold(verb="get", resource="secrets", name="preview-staged-*", times=1)
    async with ended_in_admit(own_cluster, standin, second, "bereft", signal.SIGTERM) as asker:
        await hold.held()
        api, previews = own_cluster.place.api, own_cluster.place.previews
        for name in await api.names("Secret", previews):
            if name.startswith("preview-staged-"):
                await api.delete("Secret", previews, name)
        hold.release()
        answer = await asker.answer()
    assert (answer["code"], answer["reason"], answer["whose"]) == ("secret_missing", "StagedSecretsGone", "platform")
    assert answer["evidence"] == ["secret:API_TOKEN is not kept any more"]
    assert await own_cluster.place.api.get("Deployment", previews, "bereft") is None


async def test_a_failed_first_deploy_loses_its_url_though_another_applied_it(
    own_cluster: ClusterWorld, standin: World, second: Server
) -> None:
    """Whoever goes on with it does not know yet what the one before it applied."""
    slug = "unshown"
    sha = await own_cluster.commit(slug, App(sick=True))
    standin.api.faults.slow_watch(60, resource="ingresses")
    async with deploying(own_cluster, slug, sha) as asker:
        await asker.phase("rollout")
        await (await process(own_cluster, second, asker)).stop()
        answer = await asker.answer()
    assert answer["code"] == "deployment_not_ready", answer
    assert await own_cluster.place.api.get("Ingress", own_cluster.place.previews, slug) is None


async def test_what_was_queued_while_no_provider_ran_is_done_when_one_does(own_cluster: ClusterWorld) -> None:
    nats, subjects = own_cluster.client.nats, own_cluster.client.subjects
    sha = await own_cluster.commit("queued", App(body="queued\n"))

    async def made() -> bool:
        with contextlib.suppress(NotFoundError):
            return bool(await nats.jetstream().stream_info(subjects.queue_stream))
        return False

    await eventually(made, what="the first provider of all has made the queue, just after it was ready")
    await own_cluster.provider.kill()
    answers: list[dict[str, Any]] = []

    async def heard(message: Msg) -> None:
        answers.append(json.loads(message.data))

    await nats.subscribe("answers.queued", cb=heard)
    body = {"repo_full_name": "acme/queued", "branch": "main", "commit_sha": sha, "installation_id": INSTALLATION}
    secret = {**body, "deploy_id": "queued-2", "reply_to": "answers.queued", "secret_values": {"A": "hunter2"}}
    for message in ({**body, "deploy_id": "queued-1", "reply_to": "answers.queued"}, secret):
        await nats.jetstream().publish(subjects.queue, json.dumps(message).encode())
    await own_cluster.provider.start()

    async def both() -> bool:
        return len(answers) == 2

    await eventually(both, what="both are answered")
    by_id = {answer["deploy_id"]: answer for answer in answers}
    refused, done = by_id["queued-2"], by_id["queued-1"]
    assert (refused["code"], refused["reason"]) == ("invalid_request", "SecretsInQueue")
    assert "hunter2" not in json.dumps(refused)
    assert (done["ok"], done["commit_sha"]) == (True, sha)
    assert await own_cluster.guest.text(done["url"]) == "queued\n"
    again = await own_cluster.deploy("queued", sha, deploy_id="queued-1")
    assert again.deploy_id == "queued-1"
