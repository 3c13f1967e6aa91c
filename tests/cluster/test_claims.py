"""What is somebody else's: hosts, policies of the namespace's operator; and what can be had again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.apps import App
from tests.cluster.places import DOMAIN
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("host", [f"wanted.{DOMAIN}", "claimed.example.test"])
async def test_a_host_of_another_preview_is_refused_before_the_build(cluster: ClusterWorld, host: str) -> None:
    await cluster.deploy("hostowner", alias_hosts=["claimed.example.test"])
    failed = await refused(cluster.deploy("hosttaker", alias_hosts=[host]))
    assert (failed.code, failed.reply["reason"], failed.reply["phase"]) == ("invalid_request", "HostTaken", "admit")
    assert host in failed.reply["message"]


async def test_the_operators_network_policies_are_not_touched(cluster: ClusterWorld) -> None:
    policy: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "namespace": cluster.place.previews},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    made = await cluster.place.api.create(policy)
    await cluster.deploy("default-deny")
    found = await cluster.place.api.get("NetworkPolicy", cluster.place.previews, "default-deny")
    assert found is not None
    assert found["spec"] == made["spec"]
    await cluster.client.teardown("default-deny")
    found = await cluster.place.api.get("NetworkPolicy", cluster.place.previews, "default-deny")
    assert found is not None, "a teardown removes only what is the preview's"
    await cluster.place.api.delete("NetworkPolicy", cluster.place.previews, "default-deny")


async def test_what_an_object_of_another_client_says_does_not_stand_in_the_way(cluster: ClusterWorld) -> None:
    """One environment entry has a value there and a reference here: only together they are invalid."""
    container = {
        "name": "app",
        "image": f"{cluster.place.pull_registry}/previews/former:1",
        "env": [{"name": "TOKEN", "value": "plain"}],
        "ports": [{"containerPort": 8080}],
    }
    labels = {"app": "former"}
    await cluster.place.api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "former", "namespace": cluster.place.previews, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
    )
    app = App(spec={"env": [{"name": "TOKEN", "from": "secret:TOKEN"}]})
    done = await cluster.app("former", app, secret_values={"TOKEN": "secret"})
    assert "TOKEN=secret\n" in await cluster.guest.text(done.url, "/cgi-bin/env")


async def test_a_first_deploy_that_failed_is_tried_anew(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("anew", App(crash=4))
    assert (await refused(cluster.deploy("anew", sha))).code == "deployment_not_ready"
    before = await cluster.pods("anew")
    await refused(cluster.deploy("anew", sha))

    async def others() -> bool:
        return not before & await cluster.pods("anew")

    await eventually(others, what="new pods")


async def test_secrets_of_a_deploy_that_is_refused_in_admit_go(cluster: ClusterWorld) -> None:
    app = App(spec={"ingress": {"additionalHeaders": {"!": "no key of a ConfigMap"}}})
    failed = await refused(cluster.app("inadmissible", app, extra_env={"A": "1"}))
    assert (failed.code, failed.reply["phase"]) == ("unsupported_feature", "admit")

    async def clean() -> bool:
        return await cluster.leftovers("inadmissible") == set()

    await eventually(clean, what="bundle and anchor are gone")
