"""A secret goes every way that one can go on a cluster; objects, files and arguments are searched last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.canary import CANARY, in_bytes, in_files
from tests.cluster.apps import App
from tests.cluster.places import Place
from tests.cluster.world import ClusterWorld, cluster_world
from tests.e2e.helpers import refused
from tests.wire import tap

pytestmark = pytest.mark.timeout(120)

USED = {"env": [{"name": "TOKEN", "from": "secret:TOKEN"}]}


async def test_a_secret_is_in_nothing_that_leaves(cluster: ClusterWorld) -> None:
    client = cluster.client
    sent = {
        "secret_values": {"TOKEN": CANARY},
        "extra_env": {"EXTRA": CANARY},
        "session_id": "s-canary",
        "notify": True,
    }
    async with tap(client.nats, client.subjects.prefix) as heard:
        done = await cluster.app("canary", App(spec=USED), **sent)
        assert CANARY in await cluster.guest.text(done.url, "/cgi-bin/env"), "the app has it"
        await client.introspect("canary")
        await refused(cluster.app("canary", App(spec=USED, crash=3), **sent))
        await client.status("canary")
        await client.list()
    requests = set(heard.requests.values())
    said = [one for one in heard.messages if one.subject not in requests]
    assert len(said) > 20
    assert [one.subject for one in said if in_bytes(one.data, [CANARY])] == []


async def test_what_opens_the_bus_is_masked_also_after_a_rotation(cluster_place: Place, tmp_path: Path) -> None:
    """A preview that got hold of it says it."""
    file, keys = tmp_path / "bus-token", ["the-first-token"]
    file.write_text(keys[0])
    own = {"NATS_TOKEN_FILE": str(file), "PLATFORM_ID": "rotated"}
    async with cluster_world(cluster_place, tmp_path, own, repeat_seconds=1.0) as world:
        async with tap(world.client.nats, world.client.subjects.prefix) as heard:
            await _said_and_masked(world, keys)
            keys.append("the-second-token")
            file.write_text(keys[1])
            await world.nats.stop()
            await world.nats.start()
            await _said_and_masked(world, keys)
        assert [one.subject for one in heard.messages if in_bytes(one.data, keys)] == []
        assert in_files(tmp_path, keys, ("bus-token", "git")) == []


async def _said_and_masked(world: ClusterWorld, keys: list[str]) -> None:
    check = {"path": "/", "body_contains": "another"}
    failed = await refused(world.app("rotated", App(body=", ".join(keys)), acceptance=[check]))
    assert failed.code == "verify_failed"
    assert ", ".join("***" for _ in keys) in str(failed)
