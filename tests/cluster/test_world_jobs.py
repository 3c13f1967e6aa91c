"""Jobs: what ends one, what does not, and what it leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.cluster.standin.node.scheduler import Node
from tests.cluster.standin.script import BuildScript
from tests.cluster.standin.world import World
from tests.cluster.world_helpers import BUILDS, Object, condition, events, install, job, only, until

FAILS = BuildScript(exit_code=3)
SUCCEEDS = BuildScript(push=False)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World(speed=50, namespaces=(BUILDS,)) as running:
        yield running


def verdict(world: World) -> Object:
    """Complete or Failed; empty while there is none."""
    found = only(world, "Job", BUILDS)
    return condition(found, "Complete") or condition(found, "Failed")


async def test_a_good_job_is_complete_about_two_seconds_after_its_container(world: World) -> None:
    install(world, job())
    await world.settled()
    status = only(world, "Job", BUILDS)["status"]
    assert (status["succeeded"], verdict(world)["reason"]) == (1, "CompletionsReached")
    labels = only(world, "Pod", BUILDS)["metadata"]["labels"]
    assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "task"
    assert labels["controller-uid"] == only(world, "Job", BUILDS)["metadata"]["uid"]


async def test_one_failed_pod_is_not_the_end(world: World) -> None:
    world.scripts.build("task", FAILS, SUCCEEDS)
    install(world, job(backoffLimit=1))
    await until(world, lambda: only(world, "Job", BUILDS)["status"].get("failed") == 1)
    assert verdict(world) == {}
    await until(world, lambda: verdict(world))
    status = only(world, "Job", BUILDS)["status"]
    assert (verdict(world)["type"], status["failed"], status["succeeded"]) == ("Complete", 1, 1)


async def test_the_backoff_limit(world: World) -> None:
    world.scripts.build("task", FAILS)
    install(world, job(backoffLimit=1))
    await until(world, lambda: verdict(world))
    assert (verdict(world)["type"], verdict(world)["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert condition(only(world, "Job", BUILDS), "FailureTarget")["status"] == "True"
    assert len(world.store.list("Pod", BUILDS)) == 2
    assert events(world, "BackoffLimitExceeded", BUILDS)


async def test_the_deadline_ends_what_runs(world: World) -> None:
    world.scripts.build("task", BuildScript(hang=True))
    install(world, job(activeDeadlineSeconds=20))
    await world.settled()
    await until(world, lambda: verdict(world))
    assert (verdict(world)["type"], verdict(world)["reason"]) == ("Failed", "DeadlineExceeded")
    await until(world, lambda: not world.store.list("Pod", BUILDS))


async def test_a_policy_fails_a_job_at_once_or_forgives(world: World) -> None:
    world.scripts.build("strict", FAILS)
    world.scripts.build("mild", BuildScript(evicted="The node was low on resource: memory."), SUCCEEDS)
    codes = {"containerName": "task", "operator": "In", "values": [1, 3]}
    rules: list[Object] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": codes},
    ]
    install(world, job("strict", backoffLimit=3, podFailurePolicy={"rules": rules}))
    await until(world, lambda: verdict(world))
    assert verdict(world)["reason"] == "PodFailurePolicy"
    assert verdict(world)["message"].endswith("failed with exit code 3 matching FailJob rule at index 1")
    world.store.delete("Job", BUILDS, "strict")
    await world.settled()
    install(world, job("mild", backoffLimit=0, podFailurePolicy={"rules": rules}))
    await until(world, lambda: verdict(world))
    assert verdict(world)["type"] == "Complete"


async def test_a_finished_job_goes_when_its_time_to_live_is_over(world: World) -> None:
    install(world, job(ttlSecondsAfterFinished=30))
    await world.settled()
    assert verdict(world)["type"] == "Complete"
    await until(world, lambda: not world.store.list("Job", BUILDS))
    await until(world, lambda: not world.store.list("Pod", BUILDS))


async def test_limits_of_a_whole_node_never_fit() -> None:
    async with World(speed=50, namespaces=(BUILDS,), node=Node(cpu="2")) as world:
        wants = job()
        wants["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}}
        install(world, wants)
        await world.settled()
        assert "Insufficient cpu" in events(world, "FailedScheduling", BUILDS)[0]["message"]
        assert only(world, "Job", BUILDS)["status"]["active"] == 1


async def test_a_deleted_job_takes_its_running_pod_along(world: World) -> None:
    world.scripts.build("task", BuildScript(hang=True))
    install(world, job())
    await world.settled()
    world.store.delete("Job", BUILDS, "task")
    await world.settled()
    assert world.store.list("Pod", BUILDS) == []
