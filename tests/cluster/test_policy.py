"""A policy on a cluster: what it holds outlives the provider that held it; egress and base images are enforced."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider import names
from tests.cluster.places import Place
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld, cluster_world
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)

STRICT = {"name": "strict", "repositories": ["acme/strict"], "action": "allow", "baseImages": ["registry.example/base"]}
HELD = {"name": "held", "action": "hold", "egress": "none"}
POLICY = {"apiVersion": "x1agent.io/v1", "kind": "PreviewPolicy", "rules": [STRICT, HELD]}


@pytest.fixture
async def ruled(cluster_place: Place, tmp_path: Path) -> AsyncIterator[ClusterWorld]:
    """A provider of the test's own with that policy."""
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(POLICY))
    own = {"PLATFORM_ID": "ruled", "LEASE_SECONDS": "2", "ROLLOUT_TIMEOUT": "400", "POLICY_FILE": str(file)}
    async with cluster_world(cluster_place, tmp_path, own, repeat_seconds=1.0) as world:
        yield world


async def test_another_provider_goes_on_waiting_and_deploys_what_was_approved(ruled: ClusterWorld) -> None:
    sha = await ruled.commit("ruled-held")
    async with ruled.second_provider():
        async with deploying(ruled, "ruled-held", sha) as asker:
            answer = await asker.answer()
        assert (answer["code"], answer["details"]["approval"]["commit_sha"]) == ("awaiting_approval", sha)
        assert await ruled.place.api.get("Job", ruled.place.builds, names.build_job("ruled-held", sha)) is None
        owner = (await ruled.client.status(deploy_id=asker.deploy_id)).reply["owner"]["instance"]
        if owner == "first":
            await ruled.provider.kill()
        await ruled.client.approve(asker.deploy_id, "ada")

        async def ready() -> bool:
            return (await ruled.client.status("ruled-held")).state == "ready"

        await eventually(ready, timeout=60)
        record = await ruled.client.status("ruled-held")
        assert record.commit_sha == sha
        assert await ruled.guest.text(str(record.url))
    policy = await ruled.place.api.get("NetworkPolicy", ruled.place.previews, names.network_policy("ruled-held"))
    assert policy is not None
    assert (policy["spec"]["policyTypes"], policy["spec"].get("egress", [])) == (["Ingress", "Egress"], [])


async def test_a_base_image_of_another_registry_is_denied_before_the_build(ruled: ClusterWorld) -> None:
    sha = await ruled.commit("strict")
    denied = await refused(ruled.deploy("strict", sha))
    assert (denied.code, denied.reason, denied.phase) == ("policy_denied", "BeyondLimit", "admit")
    (breach,) = denied.details["policy"]["breaches"]
    assert breach == {"limit": "baseImages", "allowed": "registry.example/base", "asked": ruled.place.base_image}
    assert await ruled.place.api.get("Job", ruled.place.builds, names.build_job("strict", sha)) is None
