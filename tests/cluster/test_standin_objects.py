"""Objects in and out: create, replace, patch, delete, lists and pages, versions and generations."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.cluster.standin.client import Api, config_map, deployment, job, owner, pod, running_api, service

PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        yield api


async def test_a_new_object_gets_what_only_the_server_gives(api: Api) -> None:
    made = await api.create(deployment())
    meta = made.json()["metadata"]
    assert made.status_code == 201
    assert (meta["generation"], meta["namespace"]) == (1, "default")
    assert {"uid", "creationTimestamp", "resourceVersion", "managedFields"} <= meta.keys()
    assert made.json()["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    again = await api.create(deployment())
    assert (again.status_code, again.json()["reason"]) == (409, "AlreadyExists")
    assert again.json()["message"] == 'deployments.apps "app" already exists'


async def test_what_is_absent_is_not_found(api: Api) -> None:
    absent = await api.get("Deployment", "app")
    assert absent.status_code == 404
    assert absent.json()["message"] == 'deployments.apps "app" not found'
    assert absent.json()["details"] == {"name": "app", "group": "apps", "kind": "deployments"}
    assert (await api.get("ConfigMap", namespace="nowhere")).json()["items"] == []
    nowhere = await api.create(config_map(metadata={"namespace": "nowhere"}))
    assert (nowhere.status_code, nowhere.json()["message"]) == (404, 'namespaces "nowhere" not found')
    assert (await api.ask("GET", "/apis/example.org/v1/widgets")).text == "404 page not found\n"


async def test_a_replacement_with_a_stale_version_is_a_conflict(api: Api) -> None:
    made = (await api.create(config_map(data={"a": "1"}))).json()
    made["data"]["a"] = "2"
    assert (await api.replace(made)).status_code == 200
    stale = await api.replace(made)
    assert (stale.status_code, stale.json()["reason"]) == (409, "Conflict")
    del made["metadata"]["resourceVersion"]
    assert (await api.replace(made)).status_code == 200


async def test_only_what_is_wanted_counts_the_generation_up(api: Api) -> None:
    made = (await api.create(deployment())).json()
    made["metadata"]["labels"] = {"a": "b"}
    labelled = (await api.replace(made)).json()
    assert labelled["metadata"]["generation"] == 1
    labelled["spec"]["replicas"] = 2
    assert (await api.replace(labelled)).json()["metadata"]["generation"] == 2


async def test_a_write_that_changes_nothing_keeps_the_version(api: Api) -> None:
    made = (await api.create(config_map(data={"a": "1"}))).json()
    assert (await api.replace(made)).json() == made


async def test_patches(api: Api) -> None:
    await api.create(deployment())
    path = api.path("Deployment", "app")
    merged = await api.ask("PATCH", path, {"spec": {"replicas": 2}}, content_type="application/merge-patch+json")
    assert merged.json()["spec"]["replicas"] == 2
    operations = [{"op": "add", "path": "/metadata/labels", "value": {"a/b": "c"}}]
    operations += [{"op": "replace", "path": "/metadata/labels/a~1b", "value": "d"}]
    patched = await api.ask("PATCH", path, operations, content_type="application/json-patch+json")
    assert patched.json()["metadata"]["labels"] == {"a/b": "d"}
    env = {"spec": {"template": {"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}]}}}}
    strategic = await api.ask("PATCH", path, env, content_type="application/strategic-merge-patch+json")
    assert strategic.json()["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.test/app:1"


async def test_a_patch_that_does_not_fit_is_refused(api: Api) -> None:
    await api.create(config_map(data={"a": "1"}))
    path = api.path("ConfigMap", "settings")
    test = [{"op": "test", "path": "/data/a", "value": "2"}]
    refused = await api.ask("PATCH", path, test, content_type="application/json-patch+json")
    assert (refused.status_code, refused.json()["reason"]) == (422, "Invalid")
    unknown = await api.ask("PATCH", path, {}, content_type="application/json")
    assert (unknown.status_code, unknown.json()["reason"]) == (415, "UnsupportedMediaType")


async def test_deletion_answers_and_preconditions(api: Api) -> None:
    made = (await api.create(config_map())).json()
    wrong = await api.delete("ConfigMap", "settings", {"preconditions": {"uid": "other"}})
    assert wrong.status_code == 409
    assert "the UID in the precondition (other) does not match the UID in record" in wrong.json()["message"]
    stale = await api.delete("ConfigMap", "settings", {"preconditions": {"resourceVersion": "1"}})
    assert stale.status_code == 409
    await api.delete("ConfigMap", "settings", {"dryRun": ["All"]})
    done = await api.delete("ConfigMap", "settings", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert done.json()["status"] == "Success"
    assert done.json()["details"]["uid"] == made["metadata"]["uid"]
    assert (await api.delete("ConfigMap", "settings")).status_code == 404


async def test_a_scheduled_pod_is_only_marked(api: Api) -> None:
    await api.create(pod(nodeName="node", automountServiceAccountToken=False))
    marked = (await api.delete("Pod", "app", {"gracePeriodSeconds": 5})).json()
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 5
    assert "deletionTimestamp" in (await api.get("Pod", "app")).json()["metadata"]
    api.store.delete("Pod", "default", "app", grace=0)
    assert (await api.get("Pod", "app")).status_code == 404


async def test_collections_are_deleted_by_label(api: Api) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2"})):
        await api.create(config_map(name, metadata={"labels": labels}))
    await api.ask("DELETE", api.path("ConfigMap"), labelSelector="x=1")
    left = (await api.get("ConfigMap")).json()["items"]
    assert [obj["metadata"]["name"] for obj in left] == ["b", "kube-root-ca.crt"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=a", ["a"]),
        ("app!=a", ["b", "c"]),
        ("app in (a,b)", ["a", "b"]),
        ("app notin (a)", ["b", "c"]),
        ("!app", ["c"]),
        ("app,tier=web", ["b"]),
    ],
)
async def test_label_selectors(api: Api, selector: str, names: list[str]) -> None:
    for name, labels in (("a", {"app": "a"}), ("b", {"app": "b", "tier": "web"}), ("c", {})):
        await api.create(service(name) | {"metadata": {"name": name, "labels": labels}})
    found = (await api.get("Service", labelSelector=selector)).json()["items"]
    assert [obj["metadata"]["name"] for obj in found] == names


async def test_field_selectors(api: Api) -> None:
    await api.create(config_map("a"))
    found = (await api.get("ConfigMap", fieldSelector="metadata.name=a")).json()["items"]
    assert [obj["metadata"]["name"] for obj in found] == ["a"]
    refused = await api.get("ConfigMap", fieldSelector="data.a=b")
    assert refused.status_code == 400
    assert "is not a known field selector" in refused.json()["message"]


async def test_pages_show_the_list_as_it_was(api: Api) -> None:
    for name in "abc":
        await api.create(service(name))
    first = (await api.get("Service", limit=2)).json()
    assert first["metadata"]["remainingItemCount"] == 1
    await api.delete("Service", "c")
    await api.create(service("d"))
    rest = (await api.get("Service", **{"limit": 2, "continue": first["metadata"]["continue"]})).json()
    assert [obj["metadata"]["name"] for obj in rest["items"]] == ["c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_page_of_a_forgotten_version_is_expired(api: Api) -> None:
    for name in "abc":
        await api.create(service(name))
    first = (await api.get("Service", limit=2)).json()
    await api.delete("Service", "c")
    api.server.expire_watches()
    token = first["metadata"]["continue"]
    refused = await api.get("Service", **{"limit": 2, "continue": token})
    assert (refused.status_code, refused.json()["reason"]) == (410, "Expired")
    onward = refused.json()["metadata"]["continue"]
    assert (await api.get("Service", **{"limit": 2, "continue": onward})).json()["items"] == []


async def test_metadata_alone(api: Api) -> None:
    await api.create(config_map(data={"secret": "yes"}))
    one = (await api.get("ConfigMap", "settings", accept=PARTIAL)).json()
    assert (one["kind"], sorted(one)) == ("PartialObjectMetadata", ["apiVersion", "kind", "metadata"])
    many = (await api.get("ConfigMap", accept=PARTIAL_LIST)).json()
    assert many["kind"] == "PartialObjectMetadataList"
    assert "data" not in many["items"][0]
    refused = await api.get("ConfigMap", accept="application/vnd.kubernetes.protobuf")
    assert (refused.status_code, refused.json()["reason"]) == (406, "NotAcceptable")


async def test_what_each_kind_allocates(api: Api) -> None:
    spec = (await api.create(service())).json()["spec"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    made = (await api.create(job())).json()
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert made["spec"]["template"]["metadata"]["labels"]["job-name"] == "build"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    assert (await api.create(secret)).json()["data"] == {"a": "Yg=="}


async def test_a_job_deleted_without_a_policy_leaves_its_pods(api: Api) -> None:
    made = (await api.create(job())).json()
    child = pod("child", automountServiceAccountToken=False)
    child["metadata"]["ownerReferences"] = [owner(made, blockOwnerDeletion=True)]
    await api.create(child)
    done = await api.delete("Job", "build")
    assert "child pods are preserved by default" in done.headers["Warning"]
    await api.gone("Job", "build")
    assert "ownerReferences" not in (await api.get("Pod", "child")).json()["metadata"]


async def test_discovery(api: Api) -> None:
    groups = (await api.ask("GET", "/apis")).json()["groups"]
    assert {"apps", "batch", "networking.k8s.io"} <= {group["name"] for group in groups}
    resources = (await api.ask("GET", "/apis/apps/v1")).json()["resources"]
    assert {"deployments", "deployments/status"} <= {each["name"] for each in resources}
    assert (await api.ask("GET", "/version")).json()["minor"] == "36"
