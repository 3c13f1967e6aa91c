"""What somebody deletes or edits of a preview at rest is put back; what is under way is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from provider import names
from provider.client import Event
from tests.cluster.apps import App
from tests.cluster.places import DOMAIN
from tests.cluster.standin.world import World
from tests.cluster.watching import asked
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(120)

KINDS = {"ConfigMap": ".anchor", "NetworkPolicy": ".network", "Service": "", "Deployment": "", "Ingress": ""}
HEADERS = App(body="well\n", spec={"ingress": {"additionalHeaders": {"X-One": "1"}}})
GRACE = 1.0
"""Seconds in which whatever a mistake would do has to have shown."""

EDITS: list[tuple[str, Any]] = [
    ("Deployment", {"spec": {"replicas": 0}}),
    ("Deployment", {"metadata": {"labels": {"app.kubernetes.io/name": "somebody-elses"}}}),
    ("Deployment", {"metadata": {"annotations": {"preview.x1agent.io/commit-sha": None}}}),
    ("Service", {"spec": {"selector": {"app": "nobody"}}}),
    ("Ingress", {"spec": {"rules": [{"host": f"elsewhere.{DOMAIN}"}]}}),
    ("Ingress", {"metadata": {"ownerReferences": []}}),
    ("NetworkPolicy", {"spec": {"ingress": [{}]}}),
    ("ConfigMap", {"data": {"X-One": "2"}}),
]


def title(kind: str, slug: str) -> str:
    return f"{slug}{KINDS[kind]}"


def said(found: dict[str, Any]) -> Any:
    """What we say of an object, whatever the cluster adds."""
    metadata = found["metadata"]
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if "generation" not in key}
    spec = {key: value for key, value in (found.get("spec") or {}).items() if "IP" not in key}
    return metadata.get("labels"), {k: v for k, v in notes.items() if "deployment.k" not in k}, spec, found.get("data")


async def object_of(world: ClusterWorld, kind: str, name: str) -> dict[str, Any]:
    found = await world.place.api.get(kind, world.place.previews, name)
    assert found is not None, f"{kind} {name}"
    return found


async def settled(world: ClusterWorld, slug: str) -> int:
    """Wait until nothing of the deploy is under way any more; the preview's generation."""
    return int((await world.client.status(slug=slug)).reply["generation"])


async def serves(world: ClusterWorld, slug: str, body: str) -> None:
    async def well() -> bool:
        answer = await world.guest.get(f"https://{slug}.{DOMAIN}")
        return (answer.status_code, answer.text) == (200, body)

    await eventually(well, what=f"{slug} serves {body!r} again")


async def test_what_is_deleted_comes_back(cluster: ClusterWorld) -> None:
    """Each kind, of a preview of its own, all at once."""
    await asyncio.gather(*(cluster.app(f"lost-{kind.lower()}", App(body="well\n")) for kind in KINDS))
    for kind in KINDS:
        await cluster.place.api.delete(kind, cluster.place.previews, title(kind, f"lost-{kind.lower()}"))

    async def back() -> bool:
        return not [
            kind
            for slug in (f"lost-{kind.lower()}" for kind in KINDS)
            for kind in KINDS
            if await cluster.place.api.get(kind, cluster.place.previews, title(kind, slug)) is None
        ]

    await eventually(back, what="everything is there again")
    await asyncio.gather(*(serves(cluster, f"lost-{kind.lower()}", "well\n") for kind in KINDS))
    (uid,) = {(await object_of(cluster, "ConfigMap", "lost-configmap.anchor"))["metadata"]["uid"]}
    assert (await cluster.client.status(slug="lost-configmap")).reply["anchor_id"] == uid


async def test_what_is_edited_is_put_back(cluster: ClusterWorld) -> None:
    """Each edit, of a preview of its own, all at once; a warning event says what was put back."""
    edits = {f"edited-{number}": edit for number, edit in enumerate(EDITS)}
    await asyncio.gather(*(cluster.app(slug, HEADERS) for slug in edits))
    before: dict[str, Any] = {}
    for slug, (kind, patch) in edits.items():
        name = names.header_config(slug) if kind == "ConfigMap" else title(kind, slug)
        before[slug] = said(await object_of(cluster, kind, name))
        changed = await cluster.place.api.edit(kind, cluster.place.previews, name, patch)
        assert said(changed) != before[slug] or "ownerReferences" in str(patch)

    async def back() -> bool:
        for slug, (kind, _) in edits.items():
            found = await object_of(
                cluster, kind, names.header_config(slug) if kind == "ConfigMap" else title(kind, slug)
            )
            if said(found) != before[slug] or not found["metadata"].get("ownerReferences"):
                return False
        return True

    await eventually(back, what="all is as it was")
    await asyncio.gather(*(serves(cluster, slug, "well\n") for slug in edits))
    warnings = await told(cluster, "edited-3")
    assert any("service/edited-3 edited: spec.selector" in str(event.data) for event in warnings)


async def told(world: ClusterWorld, slug: str) -> list[Event]:
    """The warnings about a preview."""
    stream = world.client.nats.jetstream()
    subscription = await stream.subscribe(world.client.subjects.events(slug), ordered_consumer=True)
    found = []
    while True:
        try:
            message = await subscription.next_msg(timeout=0.5)
        except TimeoutError:
            break
        found.append(Event.model_validate_json(message.data))
    await subscription.unsubscribe()
    return [event for event in found if event.type == "warning"]


async def test_what_is_under_way_is_left_alone(cluster: ClusterWorld) -> None:
    """What is changed during a deploy is the deploy's to put right."""
    slug = "changed-under-way"
    await cluster.app(slug, App(body="one\n"))
    sha = await cluster.commit(slug, App(body="two\n", build_slow=True))
    running = asyncio.create_task(cluster.deploy(slug, sha))
    await cluster.job(slug, sha)
    await cluster.place.api.edit("Service", cluster.place.previews, slug, {"spec": {"selector": {"app": "nobody"}}})
    changed = await object_of(cluster, "Service", slug)
    await asyncio.sleep(GRACE)
    assert not running.done()
    assert await object_of(cluster, "Service", slug) == changed
    await running
    await serves(cluster, slug, "two\n")


async def test_whoever_undoes_it_again_and_again_is_answered_ever_later(cluster: ClusterWorld, standin: World) -> None:
    slug = "undone"
    await cluster.app(slug, App(body="well\n"))
    undone = 0

    def undo(event: str, found: dict[str, Any]) -> None:
        nonlocal undone
        metadata = found["metadata"]
        if (found["kind"], metadata["name"], event) == ("Service", slug, "MODIFIED") and found["spec"]["selector"] == {
            "app": slug
        }:
            undone += 1
            asyncio.get_running_loop().call_soon(change)

    changes: set[asyncio.Task[Any]] = set()

    def change() -> None:
        edit = cluster.place.api.edit(
            "Service", cluster.place.previews, slug, {"spec": {"selector": {"app": "nobody"}}}
        )
        changes.add(asyncio.create_task(edit))

    began = asyncio.get_running_loop().time()
    change()
    forget = standin.store.subscribe(undo)
    try:

        async def twice() -> bool:
            return undone >= 2

        await eventually(twice, what="it was put back twice")
        assert asyncio.get_running_loop().time() - began > 1, "with a pause, which grows"
    finally:
        forget()
        await asyncio.gather(*changes)
    await serves(cluster, slug, "well\n")


async def test_secrets_that_are_gone_are_told_and_known_again_when_they_are_back(cluster: ClusterWorld) -> None:
    slug = "lost-secrets"
    done = await cluster.deploy(slug, extra_env={"A": "1"})
    (name,) = [one for one in await cluster.leftovers(slug) if one.startswith("Secret/")]
    kept = await object_of(cluster, "Secret", name.removeprefix("Secret/"))
    await cluster.place.api.delete("Secret", cluster.place.previews, kept["metadata"]["name"])

    async def state(wanted: str) -> bool:
        return (await cluster.client.status(slug=slug)).state == wanted

    await eventually(lambda: state("degraded"), what="it is known to lack its secrets")
    failure = (await cluster.client.status(slug=slug)).reply["failure"]
    assert (failure["code"], failure["reason"], failure["retryable"]) == ("secret_missing", "BundleLost", False)
    assert "Deploy again" in failure["hint"]
    assert "A=1\n" in await cluster.guest.text(done.url, "/cgi-bin/env"), "what runs has them still"
    again = {key: kept[key] for key in ("apiVersion", "kind", "data", "type", "immutable")}
    keys = ("name", "namespace", "labels", "annotations", "ownerReferences")
    await cluster.place.api.create({**again, "metadata": {key: kept["metadata"][key] for key in keys}})
    await eventually(lambda: state("ready"), what="they are back")
    await cluster.place.api.delete("Secret", cluster.place.previews, kept["metadata"]["name"])
    await eventually(lambda: state("degraded"))
    await cluster.deploy(slug, extra_env={"A": "2"})
    assert await state("ready")


async def test_a_preview_whose_anchor_and_secrets_are_gone_is_put_back_as_far_as_that_goes(
    cluster: ClusterWorld,
) -> None:
    """With the anchor goes all below it, the secrets, too: nobody has their values any more."""
    slug = "lost-all"
    await cluster.deploy(slug, extra_env={"A": "1"})
    before = {one for one in await cluster.leftovers(slug) if not one.startswith("Secret/")}
    await cluster.place.api.delete("ConfigMap", cluster.place.previews, names.anchor(slug))

    async def back() -> bool:
        state = (await cluster.client.status(slug=slug)).state
        return await cluster.leftovers(slug) == before and state == "degraded"

    await eventually(back, what="all but the secrets is there")
    assert (await cluster.client.status(slug=slug)).reply["failure"]["reason"] == "BundleLost"
    again = await cluster.deploy(slug, extra_env={"A": "1"})
    assert "A=1\n" in await cluster.guest.text(again.url, "/cgi-bin/env")


async def test_putting_back_does_not_bring_back_what_was_torn_down(own_cluster: ClusterWorld, standin: World) -> None:
    for number in range(8):  # until the request for the teardown does not go to the one that sleeps
        if await _torn_down_meanwhile(own_cluster, standin, f"undead-{number}"):
            return
    raise AssertionError("the provider that was stopped got it each time")


async def _torn_down_meanwhile(world: ClusterWorld, standin: World, slug: str) -> bool:
    """Stop a provider that begins to put a preview back, tear it down by another; False: that one was not asked."""
    pid = world.provider.pid
    assert pid is not None
    await world.app(slug, App())
    held = standin.api.faults.hold(verb="update", resource="configmaps", name=f"{slug}*", times=1)
    await world.place.api.edit("Service", world.place.previews, slug, {"spec": {"selector": {"app": "nobody"}}})
    await held.held()
    os.kill(pid, signal.SIGSTOP)
    try:
        async with world.second_provider(), asked(world, "teardown", slug=slug) as teardown:
            try:
                assert (await teardown.answer(timeout=3.0))["ok"]
            except TimeoutError:
                return False
            await world.nothing_left(slug)
            os.kill(pid, signal.SIGCONT)
            standin.api.faults.lift(held)
            await asyncio.sleep(GRACE)
            await world.nothing_left(slug)
            assert (await world.guest.get(f"https://{slug}.{DOMAIN}")).status_code in {404, 503}
    finally:
        os.kill(pid, signal.SIGCONT)
        standin.api.faults.lift(held)
    return True


async def test_what_was_changed_while_no_provider_ran_is_put_back(own_cluster: ClusterWorld) -> None:
    """And what nobody changed is not touched, also by a provider that did not apply it."""
    spec = {"env": [{"name": "B", "value": "2"}], "ingress": {"additionalHeaders": {"X-One": "1"}}}
    volumes = [{"name": "data", "kind": "emptyDir", "mountPath": "/data"}]
    untouched = {"plain": App(), "full": App(spec={**spec, "volumes": volumes})}
    await asyncio.gather(
        own_cluster.app("unseen", App(body="well\n")),
        *(own_cluster.app(slug, app, extra_env={"A": "1"}) for slug, app in untouched.items()),
    )
    await own_cluster.provider.kill()
    change = {"spec": {"selector": {"app": "nobody"}}}
    await own_cluster.place.api.edit("Service", own_cluster.place.previews, "unseen", change)
    await own_cluster.provider.start()
    await serves(own_cluster, "unseen", "well\n")
    found = {slug: (await own_cluster.client.status(slug=slug)).reply["generation"] for slug in (*untouched, "unseen")}
    assert found == {"plain": 1, "full": 1, "unseen": 2}
    (warning,) = await told(own_cluster, "unseen")
    assert warning.data["put_back"] == ["service/unseen edited: spec.selector"]
