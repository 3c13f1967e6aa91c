"""A secret goes every way that one can go on a cluster; objects, files and arguments are searched last."""

from __future__ import annotations

import pytest

from tests.canary import CANARY, in_bytes
from tests.cluster.apps import App
from tests.cluster.world import ClusterWorld
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
