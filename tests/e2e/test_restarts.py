"""Everything that a deploy needs is killed or restarted in the middle of it; nothing that was promised is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from provider.client import PreviewClient, new_deploy_id
from provider.demo.git_server import Content
from provider.demo.processes import StackError
from provider.demo.stack import Stack, nats_server
from provider.demo.world import World, local_world
from tests.e2e.apps import app_files
from tests.e2e.conftest import SMALL
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
from tests.zygote import Forked

SLOW = "RUN id=$(cat /proc/sys/kernel/random/uuid); echo built-$id; sleep 1; echo $id > /id"
"""A build that says its own id, takes a second more, and leaves the id in the image."""

SLOWER = SLOW.replace("sleep 1", "sleep 4")
"""Still under way when a killed provider is back."""

SERVE_ID = "cp /id /www/id && exec httpd -f -p 8080 -h /www"


@pytest.fixture(scope="module")
async def mortal_world() -> AsyncIterator[World]:
    """A world for these tests alone; each leaves it as it was: name uniquely what you deploy."""
    async with local_world(environment=SMALL, kind=Forked) as world:
        yield world


@pytest.fixture
async def mortal(mortal_world: World) -> World:
    """That world, with everything up that a test before this one may have left dead."""
    for server in (*mortal_world.stack.servers, mortal_world.provider):
        if server.pid is None:
            await server.start()
    return mortal_world


@pytest.fixture(scope="module")
async def guest_of_mortal(mortal_world: World) -> AsyncIterator[Visitor]:
    """A visitor of its previews."""
    async with visitor(mortal_world.stack) as one:
        yield one


def slow_files(world: World, name: str, extra: str = SLOW) -> dict[str, Content]:
    built = extra.replace("RUN ", f"RUN : {name}; ")  # nobody else's, which would be in the cache
    return app_files(name, world.base_image, dockerfile_extra=built, command=SERVE_ID)


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


async def test_provider_killed_in_the_build_and_started_again(mortal: World, guest_of_mortal: Visitor) -> None:
    sha = await mortal.commit("acme/join", slow_files(mortal, "join", SLOWER))
    watch = watched(mortal, "join", sha)
    await watch.line("built-")
    await mortal.provider.kill()
    assert builds_below(mortal.stack.folder) != []
    await mortal.provider.start()
    done = await watch.result()
    assert (done.commit_sha, done.built) == (sha, True)
    ids = await built_ids(mortal, watch.deploy_id)
    assert len(ids) == 1
    assert await guest_of_mortal.text(done.url, "/id") == ids.pop() + "\n"
    assert [line["deploy_id"] for line in log_lines(mortal, "build.finished", "join")] == [watch.deploy_id]
    assert [line["deploy_id"] for line in log_lines(mortal, "deploy.resumed")].count(watch.deploy_id) == 1


async def test_build_that_ends_while_no_provider_runs(mortal: World, guest_of_mortal: Visitor) -> None:
    sha = await mortal.commit("acme/meanwhile", slow_files(mortal, "meanwhile"))
    watch = watched(mortal, "meanwhile", sha)
    await watch.line("built-")
    await mortal.provider.kill()

    async def ended() -> bool:
        return any((folder / "result.json").exists() for folder in builds_below(mortal.stack.folder))

    await eventually(ended, what="the build has ended without a provider")
    await mortal.provider.start()
    done = await watch.result()
    ids = await built_ids(mortal, watch.deploy_id)
    assert len(ids) == 1
    assert await guest_of_mortal.text(done.url, "/id") == ids.pop() + "\n"


async def test_provider_killed_in_every_phase(mortal: World, guest_of_mortal: Visitor) -> None:
    good = await deployed(mortal, "phase", files=app_files("phase", mortal.base_image, body="old\n"))
    shas = [good.commit_sha]
    async with steady_load(guest_of_mortal, good.url, pause=0.05) as load:
        for phase in ("resolve", "deploy", "rollout", "verify"):
            command = "sleep 0.5; exec httpd -f -p 8080 -h /www"
            files = app_files("phase", mortal.base_image, body=f"{phase}\n", command=command)
            shas.append(await mortal.commit("acme/phase", files))
            watch = watched(mortal, "phase", shas[-1])
            await watch.phase(phase)
            await mortal.provider.kill()
            await mortal.provider.start()
            await watch.result()
            assert await guest_of_mortal.text(good.url) == f"{phase}\n"
    assert load.failed == []
    assert load.commits == shas

    async def alone() -> bool:
        return len(await containers(mortal.stack, "phase")) == 1

    await eventually(alone, what="older containers are gone, though providers were killed before they removed them")


async def test_provider_killed_right_after_accepting(mortal: World, guest_of_mortal: Visitor) -> None:
    sha = await mortal.commit("acme/just", app_files("just", mortal.base_image))
    accepted = await deploy(mortal, "just", sha, wait="accepted", deploy_id=new_deploy_id())
    await mortal.provider.kill()
    await mortal.provider.start()
    done = await deploy(mortal, "just", sha, deploy_id=accepted.deploy_id)
    assert (done.deploy_id, await guest_of_mortal.commit(done.url)) == (accepted.deploy_id, sha)
    assert len(log_lines(mortal, "build.finished", "just")) == 1


async def test_sigterm_in_the_build_and_the_next_provider_finishes(mortal: World, guest_of_mortal: Visitor) -> None:
    sha = await mortal.commit("acme/term", slow_files(mortal, "term", SLOWER))
    watch = watched(mortal, "term", sha)
    await watch.line("built-")
    began = time.monotonic()
    await mortal.provider.stop()
    assert seconds_since(began) < 10
    assert await mortal.provider.died() == 0
    await mortal.provider.start()
    done = await watch.result()
    assert await guest_of_mortal.commit(done.url) == sha
    assert len(await built_ids(mortal, watch.deploy_id)) == 1


@pytest.mark.parametrize("name", ["nats", "registry", "engine", "caddy"])
async def test_server_restarted_in_a_deploy(mortal: World, guest_of_mortal: Visitor, name: str) -> None:
    slug, server = f"sturdy-{name}", {one.name: one for one in mortal.stack.servers}[name]
    good = await deployed(mortal, slug)
    sha = await mortal.commit(f"acme/{slug}", slow_files(mortal, slug))
    watch = watched(mortal, slug, sha)
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
    assert (done.commit_sha, await guest_of_mortal.commit(good.url)) == (sha, sha)
    assert len(await built_ids(mortal, watch.deploy_id)) == 1


async def test_answer_survives_a_restart_of_nats_for_a_caller_that_only_waits(mortal: World) -> None:
    """The platform asks once and waits: nothing is repeated by the caller, so the provider must find its inbox."""
    sha = await mortal.commit("acme/once", slow_files(mortal, "once"))
    settings = {"nats_url": mortal.stack.nats.address, "repeat_seconds": 600.0}
    async with PreviewClient.connect(**settings) as client:  # type: ignore[arg-type]
        watch = watched(mortal, "once", sha, client)
        await watch.line("built-")
        await mortal.stack.nats.kill()
        await mortal.stack.nats.start()
        done = await watch.result()
    assert done.commit_sha == sha
    assert len(log_lines(mortal, "build.finished", "once")) == 1


async def test_caddy_without_its_configuration_gets_its_routes_back(mortal: World, guest_of_mortal: Visitor) -> None:
    done = await deployed(mortal, "routed")
    caddy = mortal.stack.caddy
    await caddy.kill()
    with_resume, caddy.argv = caddy.argv, [part for part in caddy.argv if part != "--resume"]
    await caddy.start()
    caddy.argv = with_resume

    async def serves() -> bool:
        try:
            return await guest_of_mortal.commit(done.url) == done.commit_sha
        except OSError:
            return False
        except Exception as error:  # what httpx raises while nothing listens there
            return "onnect" not in repr(error) and "SSL" not in repr(error) and False

    await eventually(serves, what="the route is back, though nobody asked for a deploy")


async def test_everything_restarted_while_nothing_happens(mortal: World, guest_of_mortal: Visitor) -> None:
    done = await deployed(mortal, "night")
    for server in (*mortal.stack.servers, mortal.provider):
        await server.kill()
    for server in (*mortal.stack.servers, mortal.provider):
        await server.start()
    assert await guest_of_mortal.commit(done.url) == done.commit_sha
    assert (await mortal.client.status("night")).state == "ready"
    again = await deploy(mortal, "night", done.commit_sha)
    assert (again.built, again.digest) == (False, done.digest)


# ------------------------------------------------------------------------------ sharing


async def test_repeated_deploy_id_gets_the_same_answer(world: World) -> None:
    sha = await world.commit("acme/repeat", app_files("repeat", world.base_image))
    deploy_id = new_deploy_id()
    first, second = await asyncio.gather(*(deploy(world, "repeat", sha, deploy_id=deploy_id) for _ in range(2)))
    third = await deploy(world, "repeat", sha, deploy_id=deploy_id)
    assert first.reply == second.reply == third.reply
    assert (await world.client.status("repeat")).reply["generation"] == 1
    assert len(log_lines(world, "build.finished", "repeat")) == 1


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
    assert len(log_lines(world, "build.finished", "shared")) == 1
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


async def test_a_part_that_is_away_as_a_provider_starts_is_waited_for(own_world: World) -> None:
    """The bus's store, killed under it, and Caddy would end a start; a supervisor would have to begin it again."""
    caddy = own_world.stack.caddy
    await own_world.provider.stop()
    await caddy.stop()

    async def begun(tries: int) -> asyncio.Task[None]:
        starting = asyncio.create_task(own_world.provider.start())

        async def tried() -> bool:
            assert not starting.done(), "it goes on"
            return own_world.provider.log.read_text().count("provider.not_started") >= tries

        await eventually(tried)
        return starting

    starting, began = await begun(1), time.monotonic()
    await own_world.provider.stop()
    with pytest.raises(StackError, match="status 0"):
        await starting
    assert time.monotonic() - began < 10, "it can be told to give up"
    starting = await begun(3)
    await caddy.start()
    await starting
    assert (await deployed(own_world, "after-all")).built
