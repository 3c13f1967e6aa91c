"""What goes over the wire is what the AsyncAPI document says: every subject, every form of every message."""

from __future__ import annotations

import json
import uuid
from typing import Any

from provider.bus.asyncapi import document
from provider.bus.subjects import UNSUPPORTED
from provider.client import new_deploy_id
from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.conftest import HELD
from tests.e2e.helpers import containers, deploy, deployed, eventually, podman, refused, refused_deploy, send
from tests.wire import Wire, tap


async def test_every_message_is_as_the_document_says(world: World) -> None:
    prefix, wire = world.client.subjects.prefix, Wire(document(world.client.subjects.prefix))
    async with tap(world.client.nats, prefix) as recorded:
        await everything(world)

        async def all_seen() -> bool:
            problems = wire.check(recorded)
            assert not problems, "\n".join(problems[:3])
            return not wire.unseen()

        await eventually(all_seen, what=f"every form goes by, but these: {wire.unseen()}", timeout=20)


async def everything(world: World) -> None:
    """Ask for all that can be asked for, in both ways that it can end."""
    client, session = world.client, f"s-{uuid.uuid4().hex[:8]}"
    files = app_files("wired", world.base_image, dockerfile_extra="RUN echo said")
    done = await deployed(world, "wired", files=files, session_id=session, notify=True, secret_values={"A": "hunter2"})
    await deploy(world, "wired", done.commit_sha, wait="accepted", deploy_id=(accepted := new_deploy_id()))
    await client.wait(deploy_id=accepted, states=["ready"], timeout=60)
    await deploy(world, "wired", done.commit_sha, dry_run=True)
    await client.validate("acme/wired", "main", installation_id=world.installation_id)
    await refused_deploy(world, "wired", {**files, ".x1agent/preview.yaml": "kind: Nope"})
    await refused_deploy(world, "wired", {**files, "Dockerfile": f"FROM {world.base_image}\nRUN exit 3\n"})
    await looked_at(world, accepted)
    await queued(world, done.commit_sha)
    for name in UNSUPPORTED:
        await send(world, name, {})
    await kept_by(world, session)
    await decided(world)
    (container,) = await containers(world.stack, "wired")
    await podman(world.stack, "rm", "--force", container["Id"])  # it is put back, which a warning tells

    async def put_back() -> bool:
        return bool(await containers(world.stack, "wired"))

    await eventually(put_back, what="the container is put back")
    await client.cancel("wired")
    await client.teardown("wired", session_id=session)
    for name in ("teardown", "validate", "list", "touch", "claim", "release", "attach"):
        await send(world, name, {"slug": "My App", "limit": 0})
    for name in ("approve", "reject"):
        await send(world, name, {"deploy_id": "d-1", "by": 1})
    for name in ("status", "wait", "cancel", "introspect"):
        assert (await send(world, name, {"slug": "wired"}))["code"] == "not_found"


async def looked_at(world: World, deploy_id: str) -> None:
    client = world.client
    await client.status("wired")
    await client.status(deploy_id=deploy_id)
    await client.list()
    assert (await send(world, "wait", {"slug": "wired", "for": ["removing"], "timeout_seconds": 0}))["timed_out"]
    await client.introspect("wired")
    kinds = {"look": 0, "logs": 0, "build_logs": 0}
    async for look in client.follow(deploy_id=deploy_id, include=["build_logs", "status", "pods"]):
        kinds[look.type] += 1
    assert kinds["build_logs"] >= 1


async def kept_by(world: World, session: str) -> None:
    client = world.client
    await client.touch("wired", ttl_seconds=3600)
    await client.claim("wired", session, 60)
    await client.claim("wired", "s-other", 60, force=True)
    await refused(client.claim("wired", session, 60))
    await client.release("wired", "s-other")
    await client.attach("wired", session)


async def decided(world: World) -> None:
    """One held deploy is approved, and then takes its place one that is rejected."""
    files = app_files(HELD, world.base_image)
    first = await refused_deploy(world, HELD, files)
    await world.client.approve(str(first.deploy_id), "ada")
    await world.client.wait(deploy_id=first.deploy_id, states=["ready"], timeout=60)
    second = await refused_deploy(world, HELD, files)
    await world.client.reject(str(second.deploy_id), "ada", note="enough")
    await world.client.wait(deploy_id=second.deploy_id, states=["failed"], timeout=60)
    await world.client.teardown(HELD)


async def queued(world: World, sha: str) -> None:
    """Through the queue, answered on a subject of our own: one that goes well, and one that is refused."""
    client, inbox = world.client, world.client.nats.new_inbox()
    answers = await client.nats.subscribe(inbox)
    body: dict[str, Any] = {
        "repo_full_name": "acme/wired",
        "branch": "main",
        "commit_sha": sha,
        "installation_id": world.installation_id,
        "reply_to": inbox,
    }
    for more, fine in (({}, True), ({"branch": "no such branch"}, False)):
        await client.nats.jetstream().publish(client.subjects.queue, json.dumps(body | more).encode())
        answer = await answers.next_msg(timeout=60)
        if answer.reply:
            await client.nats.publish(answer.reply)
        assert json.loads(answer.data)["ok"] is fine
    await answers.unsubscribe()


async def test_a_field_that_list_does_not_know_is_a_warning(world: World) -> None:
    answer = await send(world, "list", {"repos": "acme/shop"})
    assert answer["warnings"] == ["Unknown field 'repos' was ignored; did you mean 'repo'?"]
