"""What this installation made and no record needs goes after a grace; nobody else's, and nothing under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from provider import names
from tests.cluster.apps import App
from tests.cluster.places import Place
from tests.cluster.standin.script import BuildScript
from tests.cluster.test_takeover import installed
from tests.cluster.world import ClusterWorld, cluster_world
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(120)

OURS = "preview.x1agent.io/"
PLATFORM = "sweeping"
QUICK = {"PLATFORM_ID": PLATFORM, "SWEEP_SECONDS": "0.3", "SWEEP_GRACE": "1.5"}


@pytest.fixture(scope="module")
async def sweeping(cluster_place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """A provider that sweeps all the time."""
    async with cluster_world(cluster_place, tmp_path_factory.mktemp("sweeping"), QUICK) as world:
        yield world


async def lose_record(world: ClusterWorld, slug: str) -> None:
    """The record of a preview is gone, as if the bus had lost it."""
    bucket = await world.client.nats.jetstream().key_value("x1_provider_preview_previews")
    await bucket.purge(f"preview.{slug}")


async def tags(world: ClusterWorld, slug: str) -> list[str]:
    """The tags that the registry has of a preview."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{world.place.registry}/v2/previews/{slug}/tags/list")
    return list(answer.json().get("tags") or [])


def secret(world: ClusterWorld, name: str, notes: dict[str, str], app: str = "") -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "x1-preview-provider", **({"app": app} if app else {})}
    metadata = {"name": name, "namespace": world.place.previews, "labels": labels, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def job(world: ClusterWorld, name: str, platform_id: str) -> dict[str, Any]:
    """A build that runs for nobody."""
    notes = {f"{OURS}platform-id": platform_id, f"{OURS}build-inputs": "nobody's"}
    labels = {"component": "preview-build", "app": "x1agent", f"{OURS}slug": name}
    pod = {"containers": [{"name": "kaniko", "image": "registry.local/kaniko:1"}], "restartPolicy": "Never"}
    metadata = {"name": name, "namespace": world.place.builds, "labels": labels, "annotations": notes}
    spec = {"template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


async def test_orphans_go_and_nothing_else(sweeping: ClusterWorld, cluster: ClusterWorld) -> None:
    """`cluster` is another installation in the same namespaces; a third client made objects without our labels."""
    api, place = sweeping.place.api, sweeping.place
    if place.standin is not None:
        place.standin.scripts.build("swept-build*", BuildScript(fetch=False, hang=True))
    kept, lost, other, _ = await asyncio.gather(
        sweeping.app("unswept", App(body="kept\n"), extra_env={"A": "1"}),
        sweeping.app("swept", App(body="lost\n"), extra_env={"A": "1"}),
        cluster.app("others-preview", App(body="other\n"), extra_env={"A": "1"}),
        installed(sweeping, "theirs-preview"),
    )
    mine, others = {f"{OURS}platform-id": PLATFORM}, {f"{OURS}platform-id": "somebody"}
    old = {f"{OURS}generation": "0"}
    for body in (
        secret(sweeping, "preview-staged-old", {**mine, f"{OURS}staged": "old"}),
        secret(sweeping, "preview-secrets-unswept-old", mine | old, "unswept"),
        job(sweeping, "swept-build", PLATFORM),
        secret(sweeping, "preview-staged-others", {**others, f"{OURS}staged": "others"}),
        secret(sweeping, "preview-secrets-others-old", others | old, "unswept"),
        job(sweeping, "swept-build-others", "somebody"),
    ):
        await api.create(body)
    await lose_record(sweeping, "swept")
    await api.delete("Ingress", place.previews, "swept")  # it serves nothing, so it is not adopted
    await sweeping.nothing_left_but_jobs("swept")

    async def swept() -> bool:
        secrets, jobs = await api.names("Secret", place.previews), await api.names("Job", place.builds)
        gone = {"preview-staged-old", "preview-secrets-unswept-old"} & secrets or {"swept-build"} & jobs
        return not gone and not await tags(sweeping, "swept")

    await eventually(swept, what="staged secrets, old bundles, builds and tags that nothing needs are gone")
    assert {"preview-staged-others", "preview-secrets-others-old"} <= await api.names("Secret", place.previews)
    assert "swept-build-others" in await api.names("Job", place.builds)
    assert await sweeping.guest.text(kept.url) == "kept\n"
    assert await cluster.guest.text(other.url) == "other\n"
    assert await sweeping.guest.text(lost.url.replace("swept", "theirs-preview")) == "old\n"
    assert len(await sweeping.leftovers("unswept")) == len(await cluster.leftovers("others-preview"))
    assert await tags(sweeping, "unswept") == [kept.commit_sha[:12]]
    assert await tags(cluster, "others-preview") == [other.commit_sha[:12]]


async def test_a_preview_whose_record_was_lost_gets_one_again(sweeping: ClusterWorld) -> None:
    """Made of what its Deployment says: whose it is, what it serves, and of what it was built."""
    slug = "adopted"
    done = await sweeping.app(slug, App(body="mine\n"), extra_env={"A": "1"})
    before = (await sweeping.client.status(slug)).reply
    await lose_record(sweeping, slug)

    async def adopted() -> bool:
        return slug in {one.slug for one in (await sweeping.client.list()).previews}

    await eventually(adopted, what="it has a record again")
    after = (await sweeping.client.status(slug)).reply
    same = ("repo_full_name", "branch", "url", "state", "generation", "last_good")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert await sweeping.guest.text(done.url) == "mine\n"
    again = await sweeping.deploy(slug, done.commit_sha, extra_env={"A": "1"})
    assert again.built is False
    assert "A=1\n" in await sweeping.guest.text(done.url, "/cgi-bin/env")
    await sweeping.client.teardown(slug)
    await sweeping.nothing_left_but_jobs(slug)


async def test_what_a_deploy_under_way_needs_is_no_orphan(sweeping: ClusterWorld) -> None:
    """Its first build takes longer than the grace; its staged secrets, bundle, anchor and Job stay."""
    slug = "swept-slow"
    sha = await sweeping.commit(slug, App(body="slow\n", build_slow=True))
    running = asyncio.create_task(sweeping.deploy(slug, sha, extra_env={"A": "1"}))
    uid = (await sweeping.job(slug, sha))["metadata"]["uid"]
    done = await running
    assert (await sweeping.job(slug, sha))["metadata"]["uid"] == uid
    assert "A=1\n" in await sweeping.guest.text(done.url, "/cgi-bin/env")


async def test_credentials_that_no_job_owned_go(sweeping: ClusterWorld) -> None:
    """A provider that is killed between the two requests leaves a Secret without an owner."""
    slug = "swept-clone"
    sha = await sweeping.commit(slug, App(build_exit=1))
    with pytest.raises(Exception, match="kaniko_build_failed"):
        await sweeping.deploy(slug, sha)
    api, builds = sweeping.place.api, sweeping.place.builds
    name = names.clone_secret(names.build_job(slug, sha))
    await api.edit("Secret", builds, name, {"metadata": {"ownerReferences": None}})
    await api.delete("Job", builds, names.build_job(slug, sha))
    assert name in await api.names("Secret", builds)

    async def gone() -> bool:
        return name not in await api.names("Secret", builds)

    await eventually(gone, what="the credentials are gone")
