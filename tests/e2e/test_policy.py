"""A policy on the engine: what it denies, what it holds until somebody decides, and what a preview may reach."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from provider.answers import Record
from provider.client import new_deploy_id
from provider.demo.world import World, local_world
from provider.platforms.container import firewall
from tests.e2e.apps import app_files, cgi
from tests.e2e.conftest import SMALL
from tests.e2e.helpers import Visitor, deploy, deployed, eventually, log_lines, podman, refused, serving, visitor

OUTSIDE = "echo | nc -w 1 192.0.2.1 80 >/dev/null 2>&1 && echo REACHED || echo WALL"


def policy(registry: str) -> str:
    """All of acme/held… is held; acme/open… may have one preview, with base images of this registry."""
    held = {"name": "held", "repositories": ["acme/held*"], "action": "hold", "egress": "none"}
    limits = {"memory": "1Gi", "previewsPerRepository": 1, "ttlSeconds": 3600}
    rest = {"name": "open", "repositories": ["acme/open*"], "action": "allow", "limits": limits}
    rest |= {"baseImages": [f"{registry}/base"], "branches": ["main"]}
    return json.dumps({"apiVersion": "x1agent.io/v1", "kind": "PreviewPolicy", "rules": [held, rest]})


@pytest.fixture(scope="module")
async def ruled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Visitor, Path]]:
    """A world with a policy, a visitor of it, and the policy's file."""
    file = tmp_path_factory.mktemp("policy") / "policy.json"
    file.write_text(policy("nobody.example"))
    async with local_world(environment={**SMALL, "POLICY_FILE": str(file)}) as world:
        file.write_text(policy(world.stack.registry.address))

        async def taken() -> bool:
            return len(log_lines(world, "policy.taken")) == 2

        await eventually(taken)
        async with visitor(world.stack) as guest:
            yield world, guest, file


async def settled(world: World, slug: str, state: str) -> Record:
    """The preview, as soon as it is in that state."""

    async def reached() -> Record | None:
        found = await world.client.status(slug)
        return found if found.state == state else None

    return await eventually(reached, what=f"{slug} is {state}")


async def test_a_held_deploy_waits_is_approved_and_is_the_commit_that_was_held(
    ruled: tuple[World, Visitor, Path],
) -> None:
    world, guest, _ = ruled
    first = await refused(deployed(world, "held", files=app_files("held", world.base_image, body="one\n")))
    assert (first.code, first.reason, first.phase) == ("awaiting_approval", "ApprovalNeeded", "admit")
    assert "preview approve" in str(first.reply["hint"])
    decided = await world.client.approve(str(first.deploy_id), "ada", note="looks well")
    assert (decided.decision, decided.slug) == ("approved", "held")
    await settled(world, "held", "ready")
    url = str((await world.client.status("held")).url)
    assert await guest.text(url) == "one\n"

    files = app_files("held", world.base_image, body="two\n") | {"www/cgi-bin/try": cgi(OUTSIDE)}
    await world.commit("acme/held", files)
    deploy_id = new_deploy_id()
    again = await refused(deploy(world, "held", None, deploy_id=deploy_id))
    assert (again.code, again.still_serving) == ("awaiting_approval", first.reply["commit_sha"])
    held_sha = again.reply["commit_sha"]
    await world.commit("acme/held", app_files("held", world.base_image, body="three\n"))
    await world.provider.kill()
    await world.provider.start()
    assert (await world.client.status("held")).state == "awaiting_approval"
    assert (await world.client.status(deploy_id=deploy_id)).state == "awaiting_approval"
    assert await guest.text(url) == "one\n"
    repeated = await refused(deploy(world, "held", None, deploy_id=deploy_id))
    assert repeated.reply == again.reply, "until somebody decides, the answer stays the same"
    await world.client.approve(deploy_id, "ada")
    done = await deploy(world, "held", None, deploy_id=deploy_id)
    assert (done.commit_sha, await guest.text(done.url)) == (held_sha, "two\n")

    container = await serving(world, "held")
    assert list(container["NetworkSettings"]["Networks"]) == ["x1-closed-held"]
    network = json.loads(await podman(world.stack, "network", "inspect", "x1-closed-held"))[0]
    assert network["network_interface"].startswith("x1c"), "which the firewall knows"
    assert firewall.lacking() == ""
    assert await guest.text(done.url, "/cgi-bin/try") == "WALL\n"
    assert "network/x1-closed-held" in (await world.client.teardown("held")).also_deleted


async def test_a_rejected_deploy_and_one_that_a_later_one_replaces(ruled: tuple[World, Visitor, Path]) -> None:
    world, _, _ = ruled
    files = app_files("held-twice", world.base_image)
    first = await refused(deployed(world, "held-twice", files=files))
    second = await refused(deployed(world, "held-twice", files=files))
    assert (first.code, second.code) == ("awaiting_approval", "awaiting_approval")
    superseded = await refused(world.client.approve(str(first.deploy_id), "ada"))
    assert (superseded.code, superseded.reason) == ("conflict", "NotAwaiting")
    await world.client.reject(str(second.deploy_id), "ada", note="not today")
    await settled(world, "held-twice", "failed")
    record = (await world.client.status(deploy_id=second.deploy_id)).reply
    assert (record["failure"]["code"], record["failure"]["reason"]) == ("policy_denied", "ApprovalRefused")
    assert record["failure"]["message"] == "ada rejected the deploy: not today"


async def test_what_is_beyond_the_limits_is_denied_before_the_build(ruled: tuple[World, Visitor, Path]) -> None:
    world, _, file = ruled
    files = {**app_files("open", world.base_image), "Dockerfile": "FROM nginx\n"}
    denied = await refused(deployed(world, "open", files=files, ttl_seconds=0))
    assert (denied.code, denied.reason) == ("policy_denied", "BeyondLimit")
    breaches = {one["limit"]: one for one in denied.details["policy"]["breaches"]}
    asked = {name: (one["allowed"], one["asked"]) for name, one in breaches.items()}
    assert asked["limits.ttlSeconds"] == ("1 to 3600", "0 (for ever)")
    assert asked["baseImages"] == (f"{world.stack.registry.address}/base", "nginx")
    done = await deployed(world, "open", files=app_files("open", world.base_image))
    assert (await world.client.status("open")).reply["ttl_seconds"] == 3600, "the usual time to live is cut"
    files = app_files("open-other", world.base_image)
    many = await refused(deployed(world, "open", files=files))
    assert [one["limit"] for one in many.details["policy"]["breaches"]] == ["limits.previewsPerRepository"]
    assert (await refused(world.client.touch("open", ttl_seconds=3601))).code == "policy_denied"
    elsewhere = await world.commit("acme/open", app_files("open", world.base_image, body="dev\n"), branch="dev")
    assert (await refused(deploy(world, "open", elsewhere))).reason == "CommitNotOnBranch"
    stranger = await refused(deployed(world, "stranger", files=app_files("stranger", world.base_image)))
    assert (stranger.code, stranger.reason, stranger.phase) == ("policy_denied", "Denied", "resolve")
    assert done.url

    address = log_lines(world, "provider.ready")[-1]["http"]
    file.write_text("nonsense")

    async def told() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://{address}/readyz")
        (part,) = [one for one in answer.json()["parts"] if one["name"] == "policy"]
        return answer.status_code == 200 and "the last good one is kept (2 rules" in part["detail"]

    await eventually(told, what="/readyz tells of the bad file")
    file.write_text(policy(world.stack.registry.address))
