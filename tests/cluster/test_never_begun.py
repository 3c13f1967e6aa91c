"""What never began is not told as slow, nor as the fault of the app or of its build."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.apps import App
from tests.cluster.standin.node import images
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import refused

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("own_cluster", [{"ROLLOUT_TIMEOUT": "4"}], indirect=True)
async def test_an_image_that_is_still_pulled_is_no_fault_of_the_apps(
    own_cluster: ClusterWorld, standin: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large image on a fresh node: the pod is ContainerCreating, its last event is Pulling."""
    sha = await own_cluster.commit("large", App(body="large\n"))
    pull = images.Images.pull

    async def slow(self: images.Images, container: Any, scripted: str, say: images.Say) -> str:
        if container["name"] == "app":
            say("Pulling", f'Pulling image "{container["image"]}"')
            await self._clock.sleep(1e6)
        return await pull(self, container, scripted, say)

    monkeypatch.setattr(images.Images, "pull", slow)
    failed = await refused(own_cluster.deploy("large", sha))
    said = f"{failed.reply['message']} | {failed.reply['hint']} | {failed.reply['evidence']} | {failed.reply['whose']}"
    assert "Pulling" in said, said
    assert "answer GET" not in said, said


@pytest.mark.parametrize(
    "own_cluster", [{"BUILD_REGISTRY_SECRET": "nobody-made-it", "BUILD_TIMEOUT": "60"}], indirect=True
)
async def test_a_build_that_never_began_was_not_too_slow(own_cluster: ClusterWorld, standin: World) -> None:
    """manifests/overlays/production names a Secret `registry-push` that the operator has to make."""
    failed = await refused(own_cluster.deploy("mountless"))
    reply = failed.reply
    said = f"{reply['message']} | {reply['hint']} | {reply['evidence']}"
    assert failed.code == "kaniko_create_failed", said
    assert reply["whose"] == "platform"
    assert "nobody-made-it" in said
