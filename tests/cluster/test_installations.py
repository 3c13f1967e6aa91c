"""Two installations in the same namespaces, and one whose settings changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.apps import App
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld, cluster_world, provider_process
from tests.e2e.helpers import refused

pytestmark = pytest.mark.timeout(120)

SHARED = ("GIT_BASE_URL", "API_URL", "API_INTERNAL_TOKEN")


@pytest.mark.parametrize("memory", ["2Gi", "1Gi"])
async def test_another_installations_build_is_left_alone(cluster: ClusterWorld, tmp_path: Path, memory: str) -> None:
    """It has the very name that ours would get; for the same inputs, or for others."""
    slug = f"met-{memory.lower()}"
    sha = await cluster.commit(slug, App(build_slow=True))
    own = {name: cluster.settings[name] for name in SHARED}
    async with cluster_world(cluster.place, tmp_path, {**own, "PLATFORM_ID": "met", "BUILD_MEMORY": memory}) as other:
        async with deploying(cluster, slug, sha) as asker:
            await asker.line("begun")
            failed = await refused(other.deploy(slug, sha))
            assert (failed.code, failed.reply["reason"]) == ("slug_taken", "OtherPlatform")
            assert failed.reply["phase"] == "build"
            assert "BUILD_NAMESPACE" in failed.reply["hint"]
            answer = await asker.answer()
            assert (answer["ok"], answer["built"]) == (True, True), answer
        assert await cluster.builds_seen(str(answer["job_name"])) == 1
        failed = await refused(other.deploy(slug, await cluster.commit(slug, App(body="theirs\n"))))
        assert (failed.code, failed.reply["phase"]) == ("slug_taken", "admit"), "nothing is built for it by now"
    assert await cluster.guest.text(answer["url"]) == "hello\n"


async def test_an_image_is_built_anew_when_the_builder_is_another(own_cluster: ClusterWorld) -> None:
    sha = await own_cluster.commit("rebuilt")
    assert (await own_cluster.deploy("rebuilt", sha)).built
    await own_cluster.provider.stop()
    flags = {"KANIKO_FLAGS": json.dumps(["--single-snapshot"]), "INSTANCE_NAME": "other-flags"}
    changed = provider_process(own_cluster.folder, {**own_cluster.settings, **flags}, name="changed")
    await changed.start()
    try:
        assert [(await own_cluster.deploy("rebuilt", sha)).built for _ in range(2)] == [True, False]
    finally:
        await changed.stop()
