"""Watches, the garbage collector's consequences, and pod logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.standin.client import Api, config_map, deployment, job, owner, pod, running_api
from tests.cluster.standin.values import Object

EVENT: Object = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "e"},
    "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    "reason": "Seen",
    "type": "Normal",
}
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        yield api


def told(events: list[Object]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def version(api: Api) -> str:
    return str((await api.get("ConfigMap")).json()["metadata"]["resourceVersion"])


async def test_a_watch_goes_on_from_its_version(api: Api) -> None:
    start = await version(api)
    made = (await api.create(config_map("a"))).json()
    await api.replace({**made, "data": {"a": "1"}})
    await api.delete("ConfigMap", "a")
    events = await api.events("ConfigMap", 3, resourceVersion=start)
    assert told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


async def test_a_watch_without_a_version_begins_with_what_is_there(api: Api) -> None:
    await api.create(config_map("a"))
    events = await api.events("ConfigMap", 2)
    assert told(events) == [("ADDED", "a"), ("ADDED", "kube-root-ca.crt")]


async def test_what_no_longer_matches_is_deleted_for_the_watch(api: Api) -> None:
    start = await version(api)
    made = (await api.create(config_map("a", metadata={"labels": {"on": "yes"}}))).json()
    made["metadata"]["labels"] = {"on": "no"}
    changed = (await api.replace(made)).json()
    changed["metadata"]["labels"] = {"on": "yes"}
    await api.replace(changed)
    events = await api.events("ConfigMap", 3, resourceVersion=start, labelSelector="on=yes")
    assert told(events) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]
    assert events[1]["object"]["metadata"]["labels"] == {"on": "yes"}


async def test_a_watch_ends_in_time_with_a_bookmark(api: Api) -> None:
    start = await version(api)
    await api.create(config_map("a"))
    events = await api.events("ConfigMap", resourceVersion=start, timeoutSeconds=1, allowWatchBookmarks="true")
    assert [(event["type"], event["object"]["metadata"]["resourceVersion"]) for event in events] == [
        ("ADDED", await version(api)),
        ("BOOKMARK", await version(api)),
    ]


async def test_bookmarks_come_when_something_has_happened(api: Api) -> None:
    api.server.bookmark_interval = 0.01
    start = await version(api)
    await api.create(config_map("a"))
    events = await api.events("ConfigMap", 3, resourceVersion=start, allowWatchBookmarks="true")
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK", "BOOKMARK"]


@pytest.mark.parametrize("kind", ["ConfigMap", "Event"])
async def test_no_bookmark_says_where_the_watch_began_or_is_of_events(api: Api, kind: str) -> None:
    api.server.bookmark_interval = 0.01
    start = await version(api)
    if kind == "Event":
        await api.create(EVENT)
    events = await api.events(kind, resourceVersion=start, timeoutSeconds=1, allowWatchBookmarks="true")
    assert [one["type"] for one in events] == ["ADDED"] * (kind == "Event")


async def test_a_forgotten_version_is_expired(api: Api) -> None:
    start = await version(api)
    await api.create(config_map("a"))
    api.server.expire_watches()
    events = await api.events("ConfigMap", resourceVersion=start)
    assert [event["type"] for event in events] == ["ERROR"]
    status = events[0]["object"]
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert "too old resource version" in status["message"]


async def test_an_open_watch_can_be_expired(api: Api) -> None:
    watching = api.watch("ConfigMap")
    await anext(watching)
    api.server.expire_watches()
    event = await anext(watching)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_version_of_the_future_is_refused(api: Api) -> None:
    refused = await api.get("ConfigMap", resourceVersion="99999")
    assert refused.status_code == 504
    assert refused.json()["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_watches_of_metadata_alone(api: Api) -> None:
    await api.create(config_map("a", data={"x": "y"}))
    event = (await api.events("ConfigMap", 1, accept=PARTIAL))[0]
    assert (event["object"]["kind"], "data" in event["object"]) == ("PartialObjectMetadata", False)


async def test_watches_are_counted(api: Api) -> None:
    watching = api.watch("ConfigMap")
    await anext(watching)
    assert (api.server.metrics.watches, api.server.metrics.most_watches) == (1, 1)


async def test_what_has_a_dead_owner_is_collected(api: Api) -> None:
    anchor = (await api.create(config_map("anchor"))).json()
    await api.delete("ConfigMap", "anchor")
    late = config_map("late", metadata={"ownerReferences": [owner(anchor)]})
    async with asyncio.timeout(1):
        assert (await api.apply(late)).status_code == 201
        await api.gone("ConfigMap", "late")


async def test_an_owner_in_another_namespace_does_not_count(api: Api) -> None:
    anchor = (await api.create(config_map("anchor", metadata={"namespace": "kube-public"}))).json()
    await api.create(config_map("here", metadata={"ownerReferences": [owner(anchor)]}))
    await api.gone("ConfigMap", "here")


async def test_dependents_follow_their_owner(api: Api) -> None:
    anchor = (await api.create(config_map("anchor"))).json()
    child = (await api.create(config_map("child", metadata={"ownerReferences": [owner(anchor)]}))).json()
    await api.create(config_map("grandchild", metadata={"ownerReferences": [owner(child)]}))
    await api.delete("ConfigMap", "anchor", {"propagationPolicy": "Background"})
    await api.gone("ConfigMap", "grandchild")
    assert (await api.get("ConfigMap", "child")).status_code == 404


async def test_foreground_deletion_waits_for_the_dependents(api: Api) -> None:
    made = (await api.create(job())).json()
    child = pod("child", nodeName="node", automountServiceAccountToken=False)
    child["metadata"]["ownerReferences"] = [owner(made, blockOwnerDeletion=True)]
    await api.create(child)
    marked = (await api.delete("Job", "build", {"propagationPolicy": "Foreground"})).json()
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    async for event in api.watch("Pod"):
        if "deletionTimestamp" in event["object"]["metadata"]:
            break
    assert (await api.get("Job", "build")).status_code == 200
    api.store.delete("Pod", "default", "child", grace=0)
    await api.gone("Job", "build")


async def test_orphaned_dependents_stay(api: Api) -> None:
    made = (await api.create(deployment())).json()
    await api.create(config_map("kept", metadata={"ownerReferences": [owner(made)]}))
    await api.delete("Deployment", "app", {"propagationPolicy": "Orphan"})
    await api.gone("Deployment", "app")
    assert "ownerReferences" not in (await api.get("ConfigMap", "kept")).json()["metadata"]


async def test_a_deleted_namespace_takes_everything_with_it(api: Api) -> None:
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}})
    await api.create(config_map("a", metadata={"namespace": "mine"}))
    await api.ask("DELETE", "/api/v1/namespaces/mine")
    await api.gone("Namespace", "mine")
    assert (await api.get("ConfigMap", "a", namespace="mine")).status_code == 404


async def logged(api: Api, lines: int) -> str:
    await api.create(pod(nodeName="node", automountServiceAccountToken=False))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    written = [(start + timedelta(seconds=number), f"line {number}") for number in range(lines)]
    api.logs.kept["default", "app", "app"] = written
    return f"{api.path('Pod', 'app')}/log"


async def test_a_log_with_its_options(api: Api) -> None:
    path = await logged(api, 4)
    assert (await api.ask("GET", path)).text == "line 0\nline 1\nline 2\nline 3\n"
    assert (await api.ask("GET", path, tailLines=1)).text == "line 3\n"
    assert (await api.ask("GET", path, sinceTime="2026-01-01T00:00:02Z")).text == "line 2\nline 3\n"
    assert (await api.ask("GET", path, limitBytes=3)).text == "lin"
    assert (await api.ask("GET", path, tailLines=1, timestamps="true")).text.startswith("2026-01-01T00:00:03")
    assert (await api.ask("GET", path, tailLines=-1)).status_code == 422


async def test_a_followed_log_ends_with_its_container(api: Api) -> None:
    path = await logged(api, 2)
    following = asyncio.create_task(api.ask("GET", path, follow="true", tailLines=1))
    async with api.logs.changed:
        api.logs.kept["default", "app", "app"].append((datetime.now(UTC), "last"))
        api.logs.changed.notify_all()
    await api.logs.end()
    assert (await following).text.splitlines()[-1] == "last"


async def test_logs_that_are_not_there(api: Api) -> None:
    path = await logged(api, 1)
    previous = (await api.ask("GET", path, previous="true")).json()
    assert previous["message"] == 'previous terminated container "app" in pod "app" not found'
    assert (await api.ask("GET", path, container="x")).json()["message"] == "container x is not valid for pod app"
    api.logs.kept.clear()
    waiting = await api.ask("GET", path)
    assert waiting.status_code == 400
    assert waiting.json()["message"].endswith("is waiting to start: ContainerCreating")
