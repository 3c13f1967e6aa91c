"""What `introspect` shows of a preview on the cluster: at once and as it goes on, of that preview alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from provider import names
from provider.client import Look, PreviewFailed, new_deploy_id
from tests.cluster.apps import App
from tests.cluster.standin.script import AppScript, BuildScript
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(240)


async def test_all_of_a_preview_is_shown(cluster: ClusterWorld) -> None:
    done = await cluster.app("looked", App(body="x\n", says="serving"))
    await cluster.app("looked-other", App())
    seen = await cluster.client.introspect("looked")
    assert seen.status["state"] == "ready"
    assert [phase["phase"] for phase in seen.phases][:6] == ["resolve", "admit", "build", "deploy", "rollout", "verify"]
    assert all(phase["seconds"] is not None for phase in seen.phases[:6])
    (pod,) = seen.pods
    (container,) = pod["containers"]
    assert (container["state"], container["ready"], container["restarts"]) == ("running", True, 0)
    assert str(done.digest) in container["image"]
    assert {event["reason"] for event in seen.events} >= {"Scheduled", "Started"}
    assert all("looked-other" not in event["name"] for event in seen.events)
    assert any("serving" in line for line in seen.logs)
    assert any("Pushed" in line or "pushing" in line.lower() for line in seen.build_logs)
    alone = await cluster.client.introspect("looked", include=["pods"])
    assert (alone.pods, alone.status, alone.logs) == (seen.pods, {}, ())
    (other,) = (await cluster.client.introspect("looked-other", include=["pods"])).pods
    foreign = await cluster.client.introspect("looked", include=["logs"], container=other["name"])
    assert foreign.logs == (), "another preview's pod is not read"
    future = datetime.now(UTC) + timedelta(days=1)
    assert (await cluster.client.introspect("looked", include=["logs"], since=future.isoformat())).logs == ()


async def test_a_crash_loop_shows_its_exit_code_restarts_and_the_log_before(cluster: ClusterWorld) -> None:
    await refused(cluster.app("looksick", App(crash=3)))

    async def crashed() -> Look | None:
        seen = await cluster.client.introspect("looksick")
        containers = [one for pod in seen.pods for one in pod["containers"]]
        return seen if any(one["restarts"] and one["last_exit_code"] == 3 for one in containers) else None

    seen = await eventually(crashed, what="the pod shows its restarts")
    assert seen.status["state"] == "failed"
    assert any(event["warning"] and event["reason"] == "BackOff" for event in seen.events)
    before = await cluster.client.introspect("looksick", include=["logs"], previous=True)
    assert before.logs == ("giving up",)


async def test_a_build_is_followed_live_from_its_beginning_to_its_end(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("followed")
    said = tuple(f"line {number} token-s3cret" for number in range(400))
    standin.scripts.build(f"{names.build_job('followed', sha)}*", BuildScript(log=said, seconds=30.0))
    deploy_id, values = new_deploy_id(), {"TOKEN": "token-s3cret"}
    deploying = asyncio.create_task(cluster.deploy("followed", sha, deploy_id=deploy_id, secret_values=values))

    async def known() -> bool:
        try:
            return bool(await cluster.client.status(deploy_id=deploy_id))
        except PreviewFailed:
            return False

    await eventually(known)
    looks = [look async for look in cluster.client.follow(deploy_id=deploy_id, include=["status", "build_logs"])]
    await deploying
    assert looks[0].type == "look"
    lines = [line for look in looks if look.type == "build_logs" for line in look.lines]
    assert [line for line in lines if line.startswith("line ")] == [f"line {number} ***" for number in range(400)]
    assert len([look for look in looks if look.type == "build_logs"]) > 1, "it came while it was built"
    again = [look async for look in cluster.client.follow(deploy_id=deploy_id, include=["build_logs"])]
    assert [line for look in again for line in look.lines] == lines, "what is kept is the same"


async def test_an_apps_log_is_followed_until_the_reader_goes(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("followapp")
    said = [f"said {number}" for number in range(50)]
    standin.scripts.app("followapp", AppScript(log=(*said, "dsn s3cret-value")))
    await cluster.deploy("followapp", sha, extra_env={"DSN": "s3cret-value"})
    lines: list[str] = []
    async with asyncio.timeout(30):
        async for look in cluster.client.follow("followapp", include=["logs"], tail=20):
            lines += look.lines
            if "dsn ***" in lines:
                assert any(pod.startswith("followapp-") for pod in standin.api.read_logs)
                break
    assert lines == [*said[-19:], "dsn ***"]

    async def let_go() -> bool:
        return not [pod for pod in standin.api.read_logs if pod.startswith("followapp-")]

    await eventually(let_go, what="the provider has let go of the pod's log", timeout=40.0)


async def test_another_provider_shows_the_log_of_a_build_that_it_did_not_see(own_cluster: ClusterWorld) -> None:
    sha = await own_cluster.commit("elsewhere", App(build_exit=5))
    deploy_id = new_deploy_id()
    await refused(own_cluster.deploy("elsewhere", sha, deploy_id=deploy_id))
    await own_cluster.client.teardown("elsewhere")
    async with own_cluster.second_provider():
        await own_cluster.provider.stop()
        seen = await own_cluster.client.introspect(deploy_id=deploy_id, include=["build_logs", "status"])
    assert "begun" in seen.build_logs
    assert seen.status["failure"]["code"] == "kaniko_build_failed"
    await own_cluster.provider.start()


async def test_what_is_left_out_is_said(cluster: ClusterWorld, standin: World) -> None:
    sha = await cluster.commit("longlog")
    script = BuildScript(log=tuple(f"line {number}" for number in range(3000)))
    standin.scripts.build(f"{names.build_job('longlog', sha)}*", script)
    await cluster.deploy("longlog", sha)
    seen = await cluster.client.introspect("longlog", include=["build_logs"], tail=10)
    assert len(seen.build_logs) == 10
    assert "tail" in seen.truncated["build_logs"]
    whole = await cluster.client.introspect("longlog", include=["build_logs"], tail=5000)
    assert len([line for line in whole.build_logs if line.startswith("line ")]) == 3000
    assert whole.truncated == {}


async def test_what_cannot_be_shown_is_refused(cluster: ClusterWorld) -> None:
    with pytest.raises(PreviewFailed) as caught:
        await cluster.client.introspect("nobodys")
    assert caught.value.code == "not_found"
    with pytest.raises(PreviewFailed) as caught:
        async for _ in cluster.client.follow("nobodys"):
            pass
    assert caught.value.code == "not_found"
    with pytest.raises(PreviewFailed) as caught:
        await cluster.client.introspect("nobodys", include=["secrets"], tail=10**6, container="../x")
    assert caught.value.code == "invalid_request"
    assert len(caught.value.evidence) == 3


async def test_secrets_whose_bundle_is_gone_are_not_shown(own_cluster: ClusterWorld) -> None:
    """The pod has them still, and nobody else knows what is to be masked."""
    await own_cluster.app("keyless", App(says="hunter2hunter2"), extra_env={"A": "hunter2hunter2"})
    await own_cluster.place.api.delete("Secret", own_cluster.place.previews, "preview-secrets-keyless-g1")

    async def degraded() -> bool:
        return (await own_cluster.client.status(slug="keyless")).state == "degraded"

    await eventually(degraded)
    seen = await own_cluster.client.introspect("keyless", include=["logs"])
    assert seen.logs
    assert "hunter2" not in str(seen.reply)
