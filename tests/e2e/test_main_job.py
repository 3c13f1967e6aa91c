"""The main job on the real engine: from a message on the bus to a verified URL, and to its end."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import nats.aio.msg
import pytest

from provider.client import new_deploy_id
from provider.demo.world import World
from tests.e2e.apps import app_files, merged, spec_of
from tests.e2e.helpers import (
    Visitor,
    containers,
    deploy,
    deployed,
    log_lines,
    refused_deploy,
    send,
    steady_load,
)

PHASES = ["resolve", "admit", "build", "deploy", "rollout", "verify", "publish"]


async def test_reply_is_the_contracts_to_the_letter(world: World, guest: Visitor) -> None:
    sha = await world.commit("acme/letter", app_files("letter", world.base_image, body="first\n"))
    reply = await send(
        world,
        "provision",
        {
            "preview_yaml": spec_of("letter"),
            "repo_full_name": "acme/letter",
            "branch": "main",
            "commit_sha": sha,
            "installation_id": world.installation_id,
        },
        timeout=60,
    )
    url = f"https://letter.preview.localhost:{world.stack.ingress.rpartition(':')[2]}"
    platform = {
        "ok": True,
        "url": url,
        "slug": "letter",
        "image": f"{world.stack.registry.address}/previews/letter:{sha[:12]}",
        "job_name": f"preview-build-letter-{sha[:8]}",
    }
    assert {name: reply.get(name) for name in platform} == platform
    assert set(reply) - set(platform) == {"deploy_id", "commit_sha", "digest", "built", "timings", "checks", "warnings"}
    assert reply["commit_sha"] == sha
    assert reply["built"] is True
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", reply["digest"])
    assert set(PHASES) - {"publish"} | {"total"} == set(reply["timings"])
    assert [check["ok"] for check in reply["checks"]] == [True]
    answer = await guest.get(url)
    assert (answer.status_code, answer.text, answer.headers["X-Preview-Commit"]) == (200, "first\n", sha)


async def test_events_tell_every_phase(world: World) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    done = await deployed(world, "told", files=app_files("told", world.base_image))
    events = []
    async for event in world.client.events(deploy_id=done.deploy_id, since=before):
        events.append(event)
        if event.type == "state":
            break
    assert [one.phase for one in events if one.type == "phase.started"] == PHASES
    assert [one.phase for one in events if one.type == "phase.finished"] == PHASES
    assert all(one.data["ok"] for one in events if one.type == "phase.finished")
    assert any("STEP" in line for one in events if one.type == "log" for line in one.data["lines"])
    assert len({one.event_id for one in events}) == len(events)
    assert {one.slug for one in events[2:]} == {"told"}
    state = events[-1]
    assert state.data == {"ok": True, "code": None, "url": done.url}


@pytest.mark.parametrize("ok", [True, False])
async def test_session_is_told(world: World, ok: bool) -> None:
    session = f"s-{'up' if ok else 'down'}"
    subscription = await world.client.nats.subscribe(f"x1.session.{session}.input")
    files = app_files(session, world.base_image, dockerfile_extra="" if ok else "COPY absent /")
    call = deployed if ok else refused_deploy
    await call(world, session, files=files, session_id=session, notify=True)
    message: nats.aio.msg.Msg = await subscription.next_msg(timeout=10)
    await subscription.unsubscribe()
    body = json.loads(message.data)
    payload = body["payload"]
    assert set(body) == {"session_id", "timestamp", "type", "payload"}
    assert (body["session_id"], body["type"]) == (session, "user.message")
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() == timedelta(0)
    assert set(payload) == {"text", "kind", "event_id", "source", "driverless"}
    assert (payload["kind"], payload["source"], payload["driverless"]) == ("preview", "preview-provider", True)
    assert message.headers == {"Nats-Msg-Id": payload["event_id"]}
    expected = [f"https://{session}.preview.localhost"] if ok else ["kaniko_build_failed", "Next step", "absent"]
    assert all(part in payload["text"] for part in [f"acme/{session}@main", *expected])


async def test_session_is_not_told_unless_asked(world: World) -> None:
    subscription = await world.client.nats.subscribe("x1.session.*.input")
    await deployed(world, "silent", session_id="s-silent")
    await deployed(world, "loud", session_id="s-loud", notify=True)
    message = await subscription.next_msg(timeout=10)
    await subscription.unsubscribe()
    assert message.subject == "x1.session.s-loud.input"


async def test_status_list_and_teardown(world: World, guest: Visitor) -> None:
    done = await deployed(world, "shown", session_id="s-shown", secret_values={"UNUSED": "x"})
    by_slug = await send(world, "status", {"slug": "shown"})
    assert (by_slug["ok"], by_slug["state"], by_slug["commit_sha"]) == (True, "ready", done.commit_sha)
    assert (by_slug["repo_full_name"], by_slug["branch"], by_slug["url"]) == ("acme/shown", "main", done.url)
    by_deploy = await world.client.status(deploy_id=done.deploy_id)
    assert (by_deploy.slug, by_deploy.state, by_deploy.commit_sha) == ("shown", "ready", done.commit_sha)
    listing = await world.client.list(session_id="s-shown")
    assert [one.slug for one in listing.previews] == ["shown"]
    assert listing.next is None

    torn = await send(world, "teardown", {"slug": "shown"})
    assert torn["deleted"] == ["ingress/shown", "service/shown", "deployment/shown"]
    assert (torn["ok"], torn["slug"]) == (True, "shown")
    assert await containers(world.stack, "shown") == []
    assert (await guest.get(done.url)).headers["X-Preview-Holding"]
    again = await send(world, "teardown", {"slug": "shown"})
    assert (again["ok"], again["deleted"], again["also_deleted"]) == (True, [], [])
    assert (await send(world, "status", {"slug": "shown"}))["code"] == "not_found"
    assert (await world.client.list(session_id="s-shown")).previews == ()


async def test_list_goes_page_by_page(world: World) -> None:
    names = ("page-b", "page-a", "page-c")
    await asyncio.gather(*(deployed(world, name, session_id="s-pages") for name in names))
    first = await world.client.list(session_id="s-pages", limit=2)
    assert ([one.slug for one in first.previews], first.next) == (["page-a", "page-b"], "page-b")
    rest = await world.client.list(session_id="s-pages", limit=2, after=first.next)
    assert ([one.slug for one in rest.previews], rest.next) == (["page-c"], None)
    assert (await world.client.list(repo="acme/page-a", branch="main", state="ready")).previews != ()
    assert (await world.client.list(repo="acme/page-a", branch="other")).previews == ()
    assert (await world.client.list(repo="acme/page-a", state="failed")).previews == ()


async def test_teardown_names_the_secrets_and_forgets_the_generation_never(world: World) -> None:
    spec = {"env": [{"name": "KEY", "from": "secret:KEY"}]}
    files = app_files("closed", world.base_image, spec_extra=spec)
    done = await deployed(world, "closed", files=files, secret_values={"KEY": "v"})
    torn = await world.client.teardown("closed")
    assert torn.deleted == ("ingress/closed", "service/closed", "deployment/closed", "secret/preview-secrets-closed-g1")
    await deploy(world, "closed", done.commit_sha, secret_values={"KEY": "v"})
    assert (await world.client.status("closed")).reply["generation"] == 2


@pytest.mark.parametrize("how", ["validate", "dry_run"])
async def test_validation_changes_nothing(world: World, how: str) -> None:
    name = f"only-{how.replace('_', '-')}"
    sha = await world.commit(f"acme/{name}", app_files(name, world.base_image))
    body = {"repo_full_name": f"acme/{name}", "branch": "main", "installation_id": world.installation_id}
    found = (
        await send(world, "validate", body)
        if how == "validate"
        else await send(world, "provision", {**body, "dry_run": True})
    )
    assert (found["ok"], found["slug"], found["commit_sha"]) == (True, name, sha)
    assert found["spec"]["metadata"]["name"] == name
    assert [one["kind"] for one in found["manifests"]] == ["Deployment", "Service", "Ingress"]
    assert (await send(world, "status", {"slug": name}))["code"] == "not_found"
    assert await containers(world.stack, name) == []
    assert [one for one in log_lines(world, "build.finished") if one["slug"] == name] == []


async def test_accepted_answers_before_the_deploy_is_done(world: World, guest: Visitor) -> None:
    sha = await world.commit("acme/early", app_files("early", world.base_image))
    accepted = await deploy(world, "early", sha, wait="accepted", deploy_id=new_deploy_id())
    assert accepted.url == ""
    done = await deploy(world, "early", sha, deploy_id=accepted.deploy_id)
    assert done.deploy_id == accepted.deploy_id
    assert await guest.commit(done.url) == sha


async def test_redeploy_under_load_fails_no_request(world: World, guest: Visitor) -> None:
    first = await deployed(world, "busy", files=app_files("busy", world.base_image, body="one\n"))
    async with steady_load(guest, first.url) as load, steady_load(guest, first.url) as more:
        second = await deployed(world, "busy", files=app_files("busy", world.base_image, body="two\n"))
        assert await guest.text(second.url) == "two\n"
        served = len(load.answers)
        third = await deploy(world, "busy", first.commit_sha)  # an older commit is as good a wish as a newer one
    assert load.failed + more.failed == []
    assert load.commits == [first.commit_sha, second.commit_sha, third.commit_sha]
    assert served > 20
    assert (second.built, third.built) == (True, False)


async def test_same_commit_again_builds_and_rolls_nothing(world: World) -> None:
    first = await deployed(world, "again")
    before = await containers(world.stack, "again")
    second = await deploy(world, "again", first.commit_sha)
    assert (second.built, second.digest) == (False, first.digest)
    assert second.job_name == first.job_name
    assert [one["Id"] for one in await containers(world.stack, "again")] == [one["Id"] for one in before]
    assert len([one for one in log_lines(world, "build.finished") if one["slug"] == "again"]) == 1


async def test_image_that_left_the_registry_is_built_again(world: World) -> None:
    first = await deployed(world, "gone")
    await world.client.teardown("gone")
    assert (await deploy(world, "gone", first.commit_sha)).built  # a torn down preview's record knows no image


async def test_branch_head_and_short_sha_are_resolved(world: World, guest: Visitor) -> None:
    files = app_files("heads", world.base_image)
    await world.git.create("acme/heads")
    first = await world.git.commit("acme/heads", "main", files, "one")
    second = await world.git.commit("acme/heads", "main", {"www/index.html": "two\n"}, "two")
    head = await deploy(world, "heads", None)
    assert (head.commit_sha, await guest.text(head.url)) == (second, "two\n")
    short = await deploy(world, "heads", first[:7])
    assert (short.commit_sha, await guest.text(short.url)) == (first, "hello\n")
    assert short.job_name == f"preview-build-heads-{first[:8]}"


async def test_complaint_7_an_app_whose_root_answers_404_is_healthy_by_the_path_that_it_names(world: World) -> None:
    spec = {"runtime": {"healthcheck": {"path": "/healthz"}}}
    files = app_files("rootless", world.base_image, spec_extra=spec)
    sha = await world.commit("acme/rootless", files | {"www/healthz": "ok\n", "www/index.html": None})
    done = await deploy(world, "rootless", sha)
    assert [check["url"] for check in done.checks if check["ok"]] == [f"{done.url}/healthz"]


async def test_complaint_13_the_spec_is_that_of_the_commit_and_no_other_branchs(world: World, guest: Visitor) -> None:
    files = app_files("branched", world.base_image)
    await world.git.create("acme/branched")
    await world.git.commit("acme/branched", "main", files, "main")
    env = {"env": [{"name": "FROM", "value": "feature"}]}
    feature = app_files("branched", world.base_image, spec_extra=env)
    sha = await world.git.commit("acme/branched", "feature", feature, "feature", orphan=True)
    broken = {".x1agent/preview.yaml": "kind: Nonsense\n"}
    await world.git.commit("acme/branched", "main", broken, "main is broken")
    done = await world.client.deploy("acme/branched", "feature", commit_sha=sha, installation_id=world.installation_id)
    assert done.commit_sha == sha
    assert "FROM=feature\n" in await guest.text(done.url, "/cgi-bin/env")


async def test_inline_spec_wins_over_the_commits(world: World, guest: Visitor) -> None:
    sha = await world.commit("acme/inline", app_files("not-this", world.base_image))
    done = await deploy(world, "inline", sha, preview_yaml=spec_of("inline"))
    assert done.slug == "inline"
    assert await guest.commit(done.url) == sha


async def test_longest_slug(world: World, guest: Visitor) -> None:
    slugs = ["l" * 62 + end for end in "xy"]
    for slug in slugs:
        done = await deployed(world, slug[:40] + slug[-1], files=app_files(slug, world.base_image, body=slug))
        assert (done.slug, await guest.text(done.url)) == (slug, slug)
        assert len(done.job_name) <= 63
    names = [one["Name"].lstrip("/") for slug in slugs for one in await containers(world.stack, slug)]
    assert len(set(names)) == 2
    assert max(map(len, names)) <= 63
    assert [await guest.text(f"https://{slug}.preview.localhost") for slug in slugs] == slugs
    torn = await world.client.teardown(slugs[0])
    assert f"deployment/{slugs[0]}" in torn.deleted
    assert await guest.text(f"https://{slugs[1]}.preview.localhost") == slugs[1]


async def test_alias_hosts_serve_too_and_go_when_dropped(world: World, guest: Visitor) -> None:
    alias = "shop.example.test"
    done = await deployed(world, "aliased", alias_hosts=[alias])
    assert await guest.text(f"https://{alias}") == "hello\n"
    taken = await refused_deploy(
        world, "thief", app_files("thief", world.base_image), alias_hosts=[alias], budget_seconds=30
    )
    assert (taken.code, taken.reason) == ("invalid_request", "HostTaken")
    assert await guest.commit(f"https://{alias}") == done.commit_sha
    await deploy(world, "aliased", done.commit_sha)
    assert (await guest.get(f"https://{alias}")).status_code == 404
    assert await guest.text(done.url) == "hello\n"


async def test_unknown_fields_are_warnings(world: World) -> None:
    files = app_files("curious", world.base_image, spec_extra={"ressources": {}})
    sha = await world.commit("acme/curious", files)
    body = {"repo_full_name": "acme/curious", "branch": "main", "commit_sha": sha, "instalation_id": 1}
    reply = await send(world, "provision", merged(body, {"installation_id": world.installation_id}), timeout=60)
    assert reply["ok"] is True
    assert any("instalation_id" in line and "installation_id" in line for line in reply["warnings"])
    assert any("spec.ressources" in line and "resources" in line for line in reply["warnings"])
