"""Server-side apply: who owns which field, what that decides, and what the facts say about versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.standin.client import Api, config_map, deployment, running_api, service
from tests.cluster.standin.values import Object


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        yield api


def container(obj: Object) -> Any:
    return obj["spec"]["template"]["spec"]["containers"][0]


async def test_creates_updates_and_leaves_alone(api: Api) -> None:
    wanted = deployment()
    first = await api.apply(wanted)
    again = await api.apply(wanted)
    container(wanted)["image"] = "registry.test/app:2"
    changed = await api.apply(wanted)
    assert [first.status_code, again.status_code, changed.status_code] == [201, 200, 200]
    assert first.json() == again.json()
    assert changed.json()["metadata"]["generation"] == 2
    assert int(changed.json()["metadata"]["resourceVersion"]) > int(first.json()["metadata"]["resourceVersion"])


async def test_an_empty_value_applied_again_changes_nothing(api: Api) -> None:
    wanted = deployment()
    container(wanted)["env"] = [{"name": "A", "value": ""}]
    first = await api.apply(wanted)
    assert container(first.json())["env"] == [{"name": "A"}]
    assert (await api.apply(wanted)).json() == first.json()


async def test_what_the_manager_leaves_out_is_removed(api: Api) -> None:
    wanted = deployment()
    container(wanted)["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    container(wanted)["livenessProbe"] = {"httpGet": {"port": 80}}
    await api.apply(wanted)
    container(wanted)["env"].pop(0)
    del container(wanted)["livenessProbe"]
    left = container((await api.apply(wanted)).json())
    assert left["env"] == [{"name": "B", "value": "2"}]
    assert "livenessProbe" not in left  # with the defaults that nobody owned


async def test_what_another_manager_owns_too_stays(api: Api) -> None:
    both = config_map(data={"a": "1", "b": "2"})
    await api.apply(both, "me")
    await api.apply(config_map(data={"b": "2"}), "you")
    left = (await api.apply(config_map(data={}), "me")).json()
    assert left["data"] == {"b": "2"}


async def test_what_others_own_is_a_conflict_unless_forced(api: Api) -> None:
    await api.apply(deployment(replicas=1), "me")
    refused = await api.apply(deployment(replicas=2), "you")
    assert refused.status_code == 409
    status = refused.json()
    assert status["reason"] == "Conflict"
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "me": .spec.replicas'
    causes = [{"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".spec.replicas"}]
    assert status["details"]["causes"] == causes
    taken = (await api.apply(deployment(replicas=2), "you", force="true")).json()
    assert taken["spec"]["replicas"] == 2
    owners = {entry["manager"]: entry["fieldsV1"]["f:spec"] for entry in taken["metadata"]["managedFields"]}
    assert "f:replicas" not in owners["me"]
    assert "f:replicas" in owners["you"]


async def test_conflicts_with_an_update_name_its_version(api: Api) -> None:
    await api.create(config_map(data={"a": "1"}), fieldManager="editor")
    refused = await api.apply(config_map(data={"a": "2"}))
    told = 'conflict with "editor" using v1'
    assert refused.json()["details"]["causes"][0]["message"] == told


async def test_lists_are_merged_by_their_keys(api: Api) -> None:
    mine = service(ports=[{"name": "http", "port": 80}])
    await api.apply(mine, "me")
    await api.apply(service(ports=[{"name": "dns", "port": 80, "protocol": "UDP"}]), "you")
    found = (await api.get("Service", "app")).json()
    assert [(port["name"], port["protocol"]) for port in found["spec"]["ports"]] == [("http", "TCP"), ("dns", "UDP")]


async def test_lists_without_keys_are_replaced(api: Api) -> None:
    wanted = deployment()
    container(wanted)["args"] = ["a", "b"]
    await api.apply(wanted)
    container(wanted)["args"] = ["c"]
    assert container((await api.apply(wanted)).json())["args"] == ["c"]


@pytest.mark.parametrize("version", ["1", "999999"])
async def test_a_version_makes_what_is_absent_and_refuses_what_is_there(api: Api, version: str) -> None:
    fenced = config_map(metadata={"resourceVersion": version})
    assert (await api.apply(fenced)).status_code == 201
    refused = await api.apply(fenced)
    assert (refused.status_code, refused.json()["reason"]) == (409, "Conflict")
    assert "the object has been modified" in refused.json()["message"]


async def test_the_present_version_lets_an_apply_through(api: Api) -> None:
    made = (await api.apply(config_map())).json()
    fenced = config_map(metadata={"resourceVersion": made["metadata"]["resourceVersion"]}, data={"a": "1"})
    assert (await api.apply(fenced)).status_code == 200


async def test_a_uid_that_is_not_there_is_a_conflict(api: Api) -> None:
    refused = await api.apply(config_map(metadata={"uid": "11111111-1111-1111-1111-111111111111"}))
    assert refused.status_code == 409
    assert "uid mismatch" in refused.json()["message"]


async def test_a_dry_run_keeps_nothing(api: Api) -> None:
    tried = await api.apply(deployment(), dryRun="All")
    assert (tried.status_code, tried.json()["spec"]["replicas"]) == (201, 1)
    assert (await api.get("Deployment", "app")).status_code == 404
    await api.apply(deployment())
    assert (await api.apply(deployment(replicas=3), dryRun="All")).json()["spec"]["replicas"] == 3
    assert (await api.get("Deployment", "app")).json()["spec"]["replicas"] == 1


async def test_unknown_and_mistyped_fields_are_refused(api: Api) -> None:
    unknown = await api.apply(deployment(foo=1))
    about = "failed to create typed patch object (/app; apps/v1, Kind=Deployment)"
    assert unknown.status_code == 500
    assert unknown.json()["message"].endswith(".spec.foo: field not declared in schema")
    mistyped = (await api.apply(deployment(replicas="two"))).json()
    assert mistyped["message"].endswith(".spec.replicas: expected numeric (int or float), got string")
    assert about.partition("(")[0] in mistyped["message"]


async def test_a_manager_is_required(api: Api) -> None:
    refused = await api.apply(config_map(), "")
    assert refused.status_code == 422
    assert refused.json()["details"]["causes"][0]["message"] == "Required value: is required for apply patch"


async def test_managed_fields_can_be_migrated(api: Api) -> None:
    """What another client made by plain create becomes ours by a patch of managedFields; then we can drop it."""
    wanted = deployment()
    container(wanted)["env"] = [{"name": "OLD", "value": "1"}]
    made = (await api.create(wanted, fieldManager="present")).json()
    entry = made["metadata"]["managedFields"][0]
    mine = {**entry, "manager": "me", "operation": "Apply"}
    patch: list[Object] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": [mine]},
    ]
    path = api.path("Deployment", "app")
    migrated = await api.ask("PATCH", path, patch, content_type="application/json-patch+json")
    assert [line["manager"] for line in migrated.json()["metadata"]["managedFields"]] == ["me"]
    assert migrated.json()["metadata"]["generation"] == 1
    assert "env" not in container((await api.apply(deployment(), "me")).json())


async def test_without_migration_the_others_entries_stay(api: Api) -> None:
    wanted = deployment()
    container(wanted)["env"] = [{"name": "OLD", "value": "1"}]
    await api.create(wanted, fieldManager="present")
    assert container((await api.apply(deployment(), "me", force="true")).json())["env"] == [
        {"name": "OLD", "value": "1"}
    ]


async def test_managed_fields_can_be_reset(api: Api) -> None:
    await api.create(config_map(data={"a": "1"}))
    patch: Object = {"metadata": {"managedFields": [{}]}}
    path = api.path("ConfigMap", "settings")
    reset = await api.ask("PATCH", path, patch, content_type="application/merge-patch+json")
    assert "managedFields" not in reset.json()["metadata"]
    refused = await api.apply(config_map(data={"a": "2"}))
    assert "before-first-apply" in refused.json()["message"]


async def test_status_and_spec_have_different_owners(api: Api) -> None:
    made = (await api.create(deployment(), fieldManager="me")).json()
    made["status"] = {"observedGeneration": 1}
    made["spec"]["replicas"] = 5
    done = (await api.replace(made, sub="status", fieldManager="controller")).json()
    assert (done["status"], done["spec"]["replicas"]) == ({"observedGeneration": 1}, 1)
    assert done["metadata"]["generation"] == 1
    line = next(entry for entry in done["metadata"]["managedFields"] if entry["manager"] == "controller")
    assert (line["subresource"], line["fieldsV1"]) == ("status", {"f:status": {"f:observedGeneration": {}}})
