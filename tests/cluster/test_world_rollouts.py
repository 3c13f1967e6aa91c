"""Rollouts that go wrong, in the words and with the timing of a real cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.cluster.standin.node.scheduler import Node
from tests.cluster.standin.script import Answer, AppScript, Asked, Pod, commit_of
from tests.cluster.standin.world import World
from tests.cluster.world_helpers import (
    APPS,
    PROBE,
    Object,
    condition,
    deployment,
    events,
    install,
    only,
    roll,
    service,
    until,
)

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World(speed=50, namespaces=(APPS,)) as running:
        yield running


def waiting(world: World) -> Object:
    """Why the only pod's container waits; empty while it does not."""
    pods = world.store.list("Pod", APPS)
    statuses = pods[0]["status"].get("containerStatuses", []) if pods else []
    found: Object = statuses[0]["state"].get("waiting", {}) if statuses else {}
    return found


def progressing(world: World) -> Object:
    return condition(only(world, "Deployment"), "Progressing")


async def test_an_image_that_is_not_there_is_told_and_tried_again(world: World) -> None:
    world.scripts.app("shop", AppScript(cannot_pull=True))
    install(world, deployment("shop"))
    await until(world, lambda: waiting(world).get("reason") == "ErrImagePull")
    assert "code = NotFound" in waiting(world)["message"]
    await until(world, lambda: waiting(world).get("reason") == "ImagePullBackOff")
    assert waiting(world)["message"].startswith('Back-off pulling image "x1-registry:5000/previews/shop:a1": ErrImage')
    await until(world, lambda: len(events(world, "Failed")) >= 3)
    assert only(world, "Pod")["status"]["phase"] == "Pending"


async def test_a_crash_loop_restarts_once_at_once_and_then_backs_off(world: World) -> None:
    world.scripts.app("shop", AppScript(crash=3, log=("boom",)))
    install(world, deployment("shop"))
    await until(world, lambda: waiting(world).get("reason") == "CrashLoopBackOff")
    (status,) = only(world, "Pod")["status"]["containerStatuses"]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 3)
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=app pod=shop-")
    name = only(world, "Pod")["metadata"]["name"]
    assert [text for _, text in world.kubelet.lines(APPS, name, "app", previous=True)] == ["boom"]
    await until(world, lambda: "back-off 20s" in waiting(world).get("message", ""))


async def test_an_app_that_takes_too_much_memory_is_killed(world: World) -> None:
    world.scripts.app("shop", AppScript(oom=True))
    install(world, deployment("shop"))
    await until(world, lambda: waiting(world).get("reason") == "CrashLoopBackOff")
    ended = only(world, "Pod")["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


async def test_a_pod_that_is_never_ready_ends_in_the_progress_deadline(world: World) -> None:
    world.scripts.app("shop", AppScript(never_ready=503))
    install(world, deployment("shop"), service("shop"))
    await world.settled()
    (unhealthy,) = events(world, "Unhealthy")
    assert unhealthy["message"] == "Readiness probe failed: HTTP probe failed with statuscode: 503"
    assert unhealthy["involvedObject"]["fieldPath"] == "spec.containers{app}"
    (endpoint,) = only(world, "EndpointSlice")["endpoints"]
    assert endpoint["conditions"]["ready"] is False
    await until(world, lambda: progressing(world)["reason"] == "ProgressDeadlineExceeded")
    assert progressing(world)["status"] == "False"
    assert events(world, "Unhealthy")[0]["count"] > 10


async def test_the_old_revision_serves_while_the_new_one_is_not_ready_and_after_the_rollback(world: World) -> None:
    world.scripts.app("shop", by_commit(a1=AppScript(), b2=AppScript(never_ready=True)))
    install(world, deployment("shop"), service("shop"))
    await world.settled()
    roll(world, "shop", "b2")
    await world.settled()
    status = only(world, "Deployment")["status"]
    assert (status["replicas"], status["updatedReplicas"], status["readyReplicas"]) == (2, 1, 1)
    ready = [one["conditions"]["ready"] for one in only(world, "EndpointSlice")["endpoints"]]
    assert sorted(ready) == [False, True]
    roll(world, "shop", "a1")
    await world.settled()
    assert commit_of(only(world, "Pod")) == "a1"
    revisions = [one["metadata"]["annotations"] for one in world.store.list("ReplicaSet", APPS)]
    assert sorted(one["deployment.kubernetes.io/revision"] for one in revisions) == ["2", "3"]
    assert only(world, "Deployment")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert progressing(world)["reason"] == "NewReplicaSetAvailable"


async def test_refused_pods_show_in_the_replica_set_and_for_minutes_not_in_the_deployment() -> None:
    async with World(speed=100, namespaces={APPS: RESTRICTED}) as world:
        install(world, deployment("shop"))
        await world.settled()
        failure = condition(only(world, "ReplicaSet"), "ReplicaFailure")
        assert failure["reason"] == "FailedCreate"
        assert 'violates PodSecurity "restricted:latest"' in failure["message"]
        assert events(world, "FailedCreate")[0]["message"].startswith('Error creating: pods "shop-')
        assert progressing(world)["status"] == "True"
        assert condition(only(world, "Deployment"), "ReplicaFailure") == {}
        await until(world, lambda: progressing(world)["status"] == "False")
        await until(world, lambda: condition(only(world, "Deployment"), "ReplicaFailure"))


async def test_a_missing_secret_is_a_config_error_until_it_is_there(world: World) -> None:
    source = {"valueFrom": {"secretKeyRef": {"name": "bundle", "key": "TOKEN"}}}
    heard: list[str] = []

    def answer(asked: Asked) -> Answer:
        heard.append(asked.env["TOKEN"])
        return Answer(200)

    world.scripts.app("shop", AppScript(answers=answer))
    install(world, deployment("shop", env=[{"name": "TOKEN", **source}]))
    await until(world, lambda: waiting(world).get("message"))
    assert waiting(world) == {"reason": "CreateContainerConfigError", "message": 'secret "bundle" not found'}
    metadata = {"name": "bundle", "namespace": APPS}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"OTHER": "1"}}
    made = world.store.create(secret, manager="test")
    await until(world, lambda: f"couldn't find key TOKEN in Secret {APPS}/bundle" == waiting(world).get("message"))
    made["data"] = {"TOKEN": "aHVzaA=="}
    world.store.update(made, manager="test")
    await until(world, lambda: condition(only(world, "Deployment"), "Available").get("status") == "True")
    assert heard[0] == "hush"


async def test_a_pod_that_asks_for_too_much_stays_pending_and_only_an_event_says_why() -> None:
    async with World(speed=50, namespaces=(APPS,), node=Node(cpu="2")) as world:
        install(world, deployment("small", resources={"limits": {"cpu": "500m"}}))
        await world.settled()
        install(world, deployment("shop", resources={"limits": {"cpu": "1"}}))
        await world.settled()
        (event,) = events(world, "FailedScheduling")
        assert event["message"].startswith("0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes")
        (pod,) = world.store.list("Pod", APPS, {"app": "shop"})
        assert pod["status"]["phase"] == "Pending"
        assert condition(pod, "PodScheduled")["reason"] == "Unschedulable"
        world.store.delete("Deployment", APPS, "small")
        await until(world, lambda: events(world, "Scheduled")[1:])


async def test_a_liveness_probe_restarts_the_container(world: World) -> None:
    world.scripts.app("shop", AppScript(unhealthy_after=5.0))
    install(world, deployment("shop", livenessProbe={**PROBE, "failureThreshold": 2}))
    await until(world, lambda: events(world, "Killing"))
    assert events(world, "Killing")[0]["message"] == "Container app failed liveness probe, will be restarted"
    await until(world, lambda: only(world, "Pod")["status"]["containerStatuses"][0]["restartCount"] == 1)
    ended = only(world, "Pod")["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert ended["exitCode"] == 143


async def test_a_startup_probe_gives_time_and_then_kills(world: World) -> None:
    world.scripts.app("slow", AppScript(ready_after=5.0))
    world.scripts.app("never", AppScript(never_ready=True))
    startup = {**PROBE, "failureThreshold": 10}
    install(world, *(deployment(name, startupProbe=startup) for name in ("slow", "never")))
    await until(world, lambda: events(world, "Killing"))
    assert events(world, "Killing")[0]["message"] == "Container app failed startup probe, will be restarted"
    ready = {one["metadata"]["name"]: condition(one, "Available")["status"] for one in world.store.list("Deployment")}
    assert ready == {"slow": "True", "never": "False"}


async def test_a_deleted_pod_serves_on_while_it_terminates_and_is_replaced(world: World) -> None:
    world.scripts.app("shop", AppScript(stop_after=5.0))
    install(world, deployment("shop"), service("shop"))
    await world.settled()
    name = only(world, "Pod")["metadata"]["name"]
    world.store.delete("Pod", APPS, name)

    def leaving() -> Object | None:
        endpoints = only(world, "EndpointSlice").get("endpoints", [])
        return next((one["conditions"] for one in endpoints if one["targetRef"]["name"] == name), None)

    await until(world, lambda: (leaving() or {}).get("terminating"))
    assert leaving() == {"ready": False, "serving": True, "terminating": True}
    await until(world, lambda: leaving() is None)
    await world.settled()
    assert only(world, "Pod")["metadata"]["name"] != name


async def test_an_evicted_pod_is_replaced_and_stays_to_be_seen(world: World) -> None:
    install(world, deployment("shop"), service("shop"))
    await world.settled()
    name = only(world, "Pod")["metadata"]["name"]
    world.kubelet.evict(APPS, name, "The node was low on resource: memory.")
    await until(world, lambda: world.store.get("Pod", APPS, name)["status"].get("reason") == "Evicted")
    await world.settled()
    assert len(world.store.list("Pod", APPS)) == 2
    (endpoint,) = only(world, "EndpointSlice")["endpoints"]
    assert endpoint["targetRef"]["name"] != name


async def test_old_revisions_beyond_the_limit_go(world: World) -> None:
    install(world, deployment("shop"))
    for commit in ("b2", "c3", "d4"):
        await world.settled()
        roll(world, "shop", commit)
    await world.settled()
    sets = world.store.list("ReplicaSet", APPS)
    assert sorted(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for one in sets) == [
        "2",
        "3",
        "4",
    ]


async def test_a_deployment_takes_everything_with_it(world: World) -> None:
    install(world, deployment("shop"))
    await world.settled()
    world.store.delete("Deployment", APPS, "shop")
    await world.settled()
    assert world.store.list("ReplicaSet", APPS) == world.store.list("Pod", APPS) == []


async def test_a_real_registry_is_asked_for_images() -> None:
    async with World(speed=50, namespaces=(APPS,), registries={"x1-registry:5000": "127.0.0.1:1"}) as world:
        install(world, deployment("shop"))
        await until(world, lambda: waiting(world).get("reason") == "ErrImagePull")
        assert "failed to do request" in waiting(world)["message"]


def by_commit(**scripts: AppScript) -> Callable[[Pod], AppScript]:
    def choose(pod: Pod) -> AppScript:
        return scripts[commit_of(pod)]

    return choose
