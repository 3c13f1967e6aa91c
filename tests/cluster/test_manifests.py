"""`manifests/base` as a cluster takes it, and as the provider reads its settings from it."""

from __future__ import annotations

from typing import Any

import yaml

from provider.settings import Settings
from tests.cluster.places import MANIFESTS
from tests.cluster.standin.manifests import load_manifests
from tests.cluster.standin.world import World


async def test_a_cluster_takes_every_object() -> None:
    async with World() as world:
        load_manifests(world.store, MANIFESTS)
        made = {
            (kind, found["metadata"]["name"]) for kind in ("Deployment", "Service") for found in world.store.list(kind)
        }
    assert made >= {
        ("Deployment", "x1-preview-provider"),
        ("Deployment", "x1-registry"),
        ("Service", "x1-registry"),
    }


def test_the_registry_is_where_the_contract_says() -> None:
    service = next(one for one in _objects("registry.yaml") if one["kind"] == "Service")
    assert (service["metadata"]["name"], service["spec"]["ports"][0]["port"]) == ("x1-registry", 5000)


def test_every_variable_of_the_provider_is_a_setting() -> None:
    deployment = next(one for one in _objects("provider.yaml") if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {entry["name"].lower() for entry in container["env"]} <= Settings.model_fields.keys()
    assert container["securityContext"]["readOnlyRootFilesystem"]


def _objects(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / file).read_text()))
