"""Logs on the cluster: kept whole when the Job is gone, and no secret in anything that leaves."""

from __future__ import annotations

import base64
import json

import pytest

from provider import names
from provider.client import Event, new_deploy_id
from provider.store import ObjectShelf, key_of
from tests.cluster.apps import App
from tests.cluster.standin.script import AppScript, BuildScript
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(240)

SECRET = "s3cr3t/Value of+many words"
ENCODED = base64.b64encode(f"x:{SECRET}!".encode()).decode()
WRITTEN = ("s3cr3t%2FValue+of%2Bmany+words", ENCODED, SECRET)
TELLING = (WRITTEN[0], ENCODED[4:-4], SECRET[:10], SECRET[10:])


async def kept(world: ClusterWorld, slug: str, deploy_id: str) -> list[str]:
    """What the bus keeps of a build's log, whoever wrote it."""
    record = await world.client.status(deploy_id=deploy_id)
    shelf = await ObjectShelf.open(world.client.nats, world.client.subjects.logs_bucket, most=1 << 20, age=60.0)

    async def found() -> list[str] | None:
        log = await shelf.get(key_of(slug, str(record.reply["build_inputs"])))
        return [line for piece in log.pieces() for line in piece] if log is not None else None

    return await eventually(found, what="the build's log is kept")


async def test_a_builds_log_is_kept_whole_and_masked_when_its_job_is_gone(
    cluster: ClusterWorld, standin: World
) -> None:
    sha = await cluster.commit("keptlog")
    said = [f"line {number}" for number in range(500)]
    script = BuildScript(log=(*said, f"token {SECRET[:10]}", f"{SECRET[10:]} end", *WRITTEN, "last"))
    standin.scripts.build(f"{names.build_job('keptlog', sha)}*", script)
    heard: list[Event] = []
    deploy_id = new_deploy_id()
    await cluster.deploy("keptlog", sha, secret_values={"TOKEN": SECRET}, deploy_id=deploy_id, on_event=heard.append)
    job = await cluster.job("keptlog", sha)
    await cluster.client.teardown("keptlog")
    await cluster.job_gone("keptlog", sha)
    lines = await kept(cluster, "keptlog", deploy_id)
    start = lines.index("line 0")
    assert lines[start : start + 500] == said, (job["metadata"]["name"], "whole and in order")
    assert lines[start + 500 : start + 502] == ["token ***", " end"]
    assert "last" in lines
    told = [line for event in heard for line in event.data.get("lines", ())]
    assert [line for line in told if line.startswith("line ")] == said
    for text in ("\n".join(lines), json.dumps([event.data for event in heard])):
        assert not [form for form in TELLING if form in text]


async def test_what_an_app_says_of_its_secrets_is_masked_in_answer_session_and_record(
    cluster: ClusterWorld, standin: World
) -> None:
    sha = await cluster.commit("sayslog", App(crash=3))
    standin.scripts.app("sayslog", AppScript(crash=3, ready_after=60.0, log=("connecting with", *WRITTEN)))
    heard = await cluster.client.nats.subscribe("x1.session.s-says.input")
    one = new_deploy_id()
    failed = await refused(
        cluster.deploy("sayslog", sha, extra_env={"DSN": SECRET}, deploy_id=one, session_id="s-says", notify=True)
    )
    assert failed.reason == "CrashLoop"
    assert "connecting with" in failed.log_tail
    record = await cluster.client.status(deploy_id=one)
    preview = await cluster.client.status("sayslog")
    told = json.loads((await heard.next_msg(timeout=20.0)).data)["payload"]["text"]
    assert "connecting with" in told
    for text in (json.dumps(failed.log_tail), str(record), str(preview), told):
        assert "***" in text
        assert not [form for form in TELLING if form in text]
