"""What a cluster would not take is known before anything is built; what was done with what it took is told."""

from __future__ import annotations

import pytest

from provider import names
from tests.cluster.apps import App
from tests.cluster.test_failures import quota
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import refused

pytestmark = pytest.mark.timeout(120)

NO_INGRESS = {"count/ingresses.networking.k8s.io": "0"}
KINDS = ("networkpolicy", "deployment", "service", "ingress")


async def has_job(world: ClusterWorld, slug: str, sha: str) -> bool:
    return await world.place.api.get("Job", world.place.builds, names.build_job(slug, sha)) is not None


async def test_what_only_the_cluster_knows_is_known_before_the_build(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("no-room")
    async with quota(cluster, cluster.place.previews, **NO_INGRESS):
        failed = await refused(cluster.deploy("no-room", sha))
    assert (failed.code, failed.reply["phase"]) == ("quota_exceeded", "admit")
    assert "exceeded quota: small" in str(failed.reply["evidence"])
    assert not await has_job(cluster, "no-room", sha)


async def test_what_was_taken_once_is_asked_again_after_a_refusal(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("no-more-room")
    await cluster.deploy("no-more-room", sha)
    await cluster.client.teardown("no-more-room")
    async with quota(cluster, cluster.place.previews, **NO_INGRESS):
        phases = [(await refused(cluster.deploy("no-more-room", sha))).reply["phase"] for _ in range(2)]
    assert phases == ["deploy", "admit"]


@pytest.mark.parametrize("own_cluster", [{"INGRESS_CONTROLLER": "traefik"}], indirect=True)
@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("additionalHeaders", {"ingress": {"additionalHeaders": {"X-One": "1"}}}),
        ("stripPath", {"runtime": {"path": "/app"}, "ingress": {"stripPath": True}}),
    ],
)
async def test_what_the_ingress_cannot_give_is_named_before_the_build(
    own_cluster: ClusterWorld, field: str, spec: dict[str, object]
) -> None:
    slug = f"plain-{field.lower()}"
    sha = await own_cluster.commit(slug, App(spec=spec))
    failed = await refused(own_cluster.deploy(slug, sha))
    assert (failed.code, failed.reply["phase"]) == ("unsupported_feature", "admit")
    assert failed.reply["evidence"] == [f"spec.ingress.{field}"]
    assert not await has_job(own_cluster, slug, sha)


async def applied(world: ClusterWorld, slug: str, sha: str) -> list[str]:
    """What a deploy did to each object, as its events tell: to the Ingress of what serves when the rollout is over."""
    async with deploying(world, slug, sha) as asker:
        answer = await asker.answer()
        assert answer["ok"], answer
        told = [one for one in asker.events if one["phase"] in {"deploy", "verify"}]
        return [line for one in told for line in one["data"].get("lines", ())]


async def test_what_was_done_to_each_object_is_told(cluster: ClusterWorld) -> None:
    titles = [f"{kind}/told{'.network' * (kind == 'networkpolicy')}" for kind in KINDS]
    outcomes = [await applied(cluster, "told", await cluster.commit("told", App(body="one\n")))]
    sha = await cluster.commit("told", App(body="two\n"))
    outcomes += [await applied(cluster, "told", sha) for _ in range(2)]
    assert outcomes == [[f"{title} {what}" for title in titles] for what in ("created", "configured", "unchanged")]
