"""What somebody deletes or edits of a preview at rest is put back; what is under way is left alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from provider import names
from provider.client import Event
from tests.cluster.apps import App
from tests.cluster.places import DOMAIN
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
