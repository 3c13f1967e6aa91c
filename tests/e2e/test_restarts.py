"""Everything that a deploy needs is killed or restarted in the middle of it; nothing that was promised is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from provider.client import PreviewClient, new_deploy_id
from provider.demo.git_server import Content
from provider.demo.stack import Stack, nats_server
from provider.demo.world import World, local_world
from tests.e2e.apps import app_files
from tests.e2e.helpers import (
    Visitor,
    builds_below,
    containers,
    deploy,
    deployed,
    eventually,
    log_lines,
    refused,
    seconds_since,
    steady_load,
    visitor,
    watched,
)

SLOW = "RUN id=$(cat /proc/sys/kernel/random/uuid); echo built-$id; sleep 1; echo $id > /id"
"""A build that says its own id, takes a second more, and leaves the id in the image."""

SLOWER = SLOW.replace("sleep 1", "sleep 4")
"""Still under way when a killed provider is back."""

SERVE_ID = "cp /id /www/id && exec httpd -f -p 8080 -h /www"


def slow_files(world: World, name: str, extra: str = SLOW) -> dict[str, Content]:
    return app_files(name, world.base_image, dockerfile_extra=extra, command=SERVE_ID)


async def built_ids(world: World, deploy_id: str) -> set[str]:
    """The ids that builds of the deploy said in its events, over all providers."""
    stream = world.client.nats.jetstream()
    subscription = await stream.subscribe(world.client.subjects.all_events, ordered_consumer=True)
    found: set[str] = set()
    state = await stream.stream_info(world.client.subjects.events_stream)
    for _ in range(state.state.messages):
        text = (await subscription.next_msg(timeout=5)).data.decode()
        if deploy_id in text:
            found |= {part.split('"')[0] for part in text.split('"built-')[1:]}
    await subscription.unsubscribe()
    return found


async def test_provider_killed_in_the_build_and_started_again(own_world: World, own_guest: Visitor) -> None:
    sha = await own_world.commit("acme/join", slow_files(own_world, "join", SLOWER))
    watch = watched(own_world, "join", sha)
    await watch.line("built-")
    await own_world.provider.kill()
    assert builds_below(own_world.stack.folder) != []
    await own_world.provider.start()
    done = await watch.result()
    assert (done.commit_sha, done.built) == (sha, True)
    ids = await built_ids(own_world, watch.deploy_id)
    assert len(ids) == 1
    assert await own_guest.text(done.url, "/id") == ids.pop() + "\n"
    assert [line["deploy_id"] for line in log_lines(own_world, "build.finished")] == [watch.deploy_id]
    assert [line["deploy_id"] for line in log_lines(own_world, "deploy.resumed")] == [watch.deploy_id]


async def test_build_that_ends_while_no_provider_runs(own_world: World, own_guest: Visitor) -> None:
    sha = await own_world.commit("acme/meanwhile", slow_files(own_world, "meanwhile"))
    watch = watched(own_world, "meanwhile", sha)
    await watch.line("built-")
    await own_world.provider.kill()

    async def ended() -> bool:
        return any((folder / "result.json").exists() for folder in builds_below(own_world.stack.folder))

    await eventually(ended, what="the build has ended without a provider")
    await own_world.provider.start()
    done = await watch.result()
    ids = await built_ids(own_world, watch.deploy_id)
    assert len(ids) == 1
    assert await own_guest.text(done.url, "/id") == ids.pop() + "\n"


async def test_provider_killed_in_every_phase(own_world: World, own_guest: Visitor) -> None:
    good = await deployed(own_world, "phase", files=app_files("phase", own_world.base_image, body="old\n"))
    shas = [good.commit_sha]
    async with steady_load(own_guest, good.url, pause=0.05) as load:
        for phase in ("resolve", "deploy", "rollout", "verify"):
            command = "sleep 0.5; exec httpd -f -p 8080 -h /www"
            files = app_files("phase", own_world.base_image, body=f"{phase}\n", command=command)
            shas.append(await own_world.commit("acme/phase", files))
            watch = watched(own_world, "phase", shas[-1])
            await watch.phase(phase)
            await own_world.provider.kill()
            await own_world.provider.start()
            await watch.result()
            assert await own_guest.text(good.url) == f"{phase}\n"
    assert load.failed == []
    assert load.commits == shas

    async def alone() -> bool:
        return len(await containers(own_world.stack, "phase")) == 1

    await eventually(alone, what="older containers are gone, though providers were killed before they removed them")


async def test_provider_killed_right_after_accepting(own_world: World, own_guest: Visitor) -> None:
    sha = await own_world.commit("acme/just", app_files("just", own_world.base_image))
    accepted = await deploy(own_world, "just", sha, wait="accepted", deploy_id=new_deploy_id())
    await own_world.provider.kill()
    await own_world.provider.start()
    done = await deploy(own_world, "just", sha, deploy_id=accepted.deploy_id)
    assert (done.deploy_id, await own_guest.commit(done.url)) == (accepted.deploy_id, sha)
    assert len(log_lines(own_world, "build.finished")) == 1


async def test_sigterm_in_the_build_and_the_next_provider_finishes(own_world: World, own_guest: Visitor) -> None:
    sha = await own_world.commit("acme/term", slow_files(own_world, "term", SLOWER))
    watch = watched(own_world, "term", sha)
    await watch.line("built-")
    began = time.monotonic()
    await own_world.provider.stop()
    assert seconds_since(began) < 10
    assert await own_world.provider.died() == 0
    await own_world.provider.start()
    done = await watch.result()
    assert await own_guest.commit(done.url) == sha
    assert len(await built_ids(own_world, watch.deploy_id)) == 1


@pytest.mark.parametrize("name", ["nats", "registry", "engine", "caddy"])
async def test_server_restarted_in_a_deploy(own_world: World, own_guest: Visitor, name: str) -> None:
    good = await deployed(own_world, "sturdy")
    server = {one.name: one for one in own_world.stack.servers}[name]
    sha = await own_world.commit("acme/sturdy", slow_files(own_world, "sturdy"))
    watch = watched(own_world, "sturdy", sha)
    await watch.line("built-")
    await server.kill()
    # Back only when the deploy has met its absence, where that shows: NATS itself carries the events.
    if name != "nats":
        waiting = {"registry": "push failed"}.get(name)
        if waiting:
            await watch.line(waiting)
        else:
            await watch.until(lambda event: event.type == "warning")
    await server.start()
    done = await watch.result()
    assert (done.commit_sha, await own_guest.commit(good.url)) == (sha, sha)
    assert len(await built_ids(own_world, watch.deploy_id)) == 1


async def test_answer_survives_a_restart_of_nats_for_a_caller_that_only_waits(own_world: World) -> None:
    """The platform asks once and waits: nothing is repeated by the caller, so the provider must find its inbox."""
    sha = await own_world.commit("acme/once", slow_files(own_world, "once"))
    settings = {"nats_url": own_world.stack.nats.address, "repeat_seconds": 600.0}
    async with PreviewClient.connect(**settings) as client:  # type: ignore[arg-type]
        watch = watched(own_world, "once", sha, client)
        await watch.line("built-")
        await own_world.stack.nats.kill()
        await own_world.stack.nats.start()
        done = await watch.result()
    assert done.commit_sha == sha
    assert len(log_lines(own_world, "build.finished")) == 1


async def test_caddy_without_its_configuration_gets_its_routes_back(own_world: World, own_guest: Visitor) -> None:
    done = await deployed(own_world, "routed")
    caddy = own_world.stack.caddy
    await caddy.kill()
    caddy.argv = [part for part in caddy.argv if part != "--resume"]
    await caddy.start()

    async def serves() -> bool:
        try:
            return await own_guest.commit(done.url) == done.commit_sha
        except OSError:
            return False
        except Exception as error:  # what httpx raises while nothing listens there
            return "onnect" not in repr(error) and "SSL" not in repr(error) and False

    await eventually(serves, what="the route is back, though nobody asked for a deploy")


async def test_everything_restarted_while_nothing_happens(own_world: World, own_guest: Visitor) -> None:
    done = await deployed(own_world, "night")
    for server in (*own_world.stack.servers, own_world.provider):
        await server.kill()
    for server in (*own_world.stack.servers, own_world.provider):
        await server.start()
    assert await own_guest.commit(done.url) == done.commit_sha
    assert (await own_world.client.status("night")).state == "ready"
    again = await deploy(own_world, "night", done.commit_sha)
    assert (again.built, again.digest) == (False, done.digest)


# ------------------------------------------------------------------------------ sharing


async def test_repeated_deploy_id_gets_the_same_answer(world: World) -> None:
    sha = await world.commit("acme/repeat", app_files("repeat", world.base_image))
    deploy_id = new_deploy_id()
    first, second = await asyncio.gather(*(deploy(world, "repeat", sha, deploy_id=deploy_id) for _ in range(2)))
    third = await deploy(world, "repeat", sha, deploy_id=deploy_id)
    assert first.reply == second.reply == third.reply
    assert (await world.client.status("repeat")).reply["generation"] == 1
    assert len([line for line in log_lines(world, "build.finished") if line["slug"] == "repeat"]) == 1


async def test_repeated_deploy_id_gets_the_same_failure(world: World) -> None:
    files = app_files("sorry", world.base_image, dockerfile_extra="COPY absent /")
    sha = await world.commit("acme/sorry", files)
    deploy_id = new_deploy_id()
    first = await refused(deploy(world, "sorry", sha, deploy_id=deploy_id))
    second = await refused(deploy(world, "sorry", sha, deploy_id=deploy_id))
    assert first.reply == second.reply
    assert first.code == "kaniko_build_failed"


async def test_equal_requests_at_once_share_one_deploy(world: World, guest: Visitor) -> None:
    files = app_files("shared", world.base_image, dockerfile_extra="RUN sleep 1")
    sha = await world.commit("acme/shared", files)
    answers = await asyncio.gather(*(deploy(world, "shared", sha) for _ in range(4)))
    assert len({one.deploy_id for one in answers}) == 4
    assert {(one.commit_sha, one.digest, one.url) for one in answers} == {(sha, answers[0].digest, answers[0].url)}
    assert len([line for line in log_lines(world, "build.finished") if line["slug"] == "shared"]) == 1
    assert len(await containers(world.stack, "shared")) == 1
    assert await guest.commit(answers[0].url) == sha


# -------------------------------------------------------------------- without JetStream


async def test_bus_without_jetstream_does_the_platforms_part(own_stack: Stack) -> None:
    plain = nats_server(own_stack.folder, jetstream=False)
    plain.name = "plain-nats"
    await plain.start()
    try:
        environment = {"NATS_URL": plain.address}
        async with (
            local_world(stack=own_stack, environment=environment) as world,
            PreviewClient.connect(nats_url=plain.address) as client,
            visitor(own_stack) as guest,
        ):
            sha = await world.commit("acme/plain", app_files("plain", world.base_image))
            watch = watched(world, "plain", sha, client)
            done = await watch.result()
            assert await guest.commit(done.url) == sha
            assert [one.phase for one in watch.events if one.type == "phase.finished"][-1] == "publish"
            assert (await client.status("plain")).state == "ready"
            again = await client.deploy("acme/plain", "main", commit_sha=sha, installation_id=world.installation_id)
            assert again.built is False
            assert "deployment/plain" in (await client.teardown("plain")).deleted
            assert len(log_lines(world, "store.memory_only")) == 1
    finally:
        await plain.stop()
