"""What the calls to an API server take of a provider: read by pages, over connections that keep little."""

from __future__ import annotations

import gc
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from provider.errors import Temporary
from provider.platforms.kubernetes import api as module
from provider.platforms.kubernetes.api import PAGE, Api
from provider.platforms.kubernetes.resources import CONFIG_MAPS
from provider.platforms.kubernetes.transport import READ_BYTES
from provider.settings import Settings
from tests.cluster.places import Place
from tests.cluster.standin.world import World

LABELS = {"app.kubernetes.io/managed-by": "x1-preview-provider"}


@pytest.fixture
async def api(cluster_place: Place) -> AsyncIterator[Api]:
    told = {name.lower(): value for name, value in cluster_place.environment().items()}
    connected = await Api.connect(Settings.model_validate(told))
    yield connected
    await connected.close()


async def test_a_list_is_read_by_pages(api: Api, cluster_place: Place) -> None:
    """All that an installation has at once would be many times what is kept of it."""
    place = cluster_place
    names = [f"one-of-many-{number}" for number in range(PAGE + 1)]
    for name in names:
        metadata = {"name": name, "namespace": place.previews, "labels": LABELS}
        await place.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    try:
        async with aclosing(api.pages(CONFIG_MAPS)) as pages:
            listed = [[item["metadata"]["name"] for item in items] async for items, _ in pages]
    finally:
        for name in names:
            await place.api.delete("ConfigMap", place.previews, name)
    assert len(listed) > 1
    assert max(map(len, listed)) <= PAGE
    assert set(names) <= {name for page in listed for name in page}


def protocols() -> dict[int, SSLProtocol]:
    """The TLS connections of this process."""
    return {id(one): one for one in gc.get_objects() if isinstance(one, SSLProtocol)}


async def test_a_connection_keeps_little(api: Api) -> None:
    """Each log that is followed is one; asyncio would keep a quarter of a megabyte for each."""
    before = protocols()
    await api.get(CONFIG_MAPS, "none")  # its connection is kept for the next call
    made = [one for key, one in protocols().items() if key not in before]
    assert made
    kept = [len(one._ssl_buffer) for one in made]  # type: ignore[attr-defined]
    assert max(kept) <= READ_BYTES


async def test_a_watch_that_never_begins_is_given_up(api: Api, standin: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server answers one at once, and then may be silent for long."""
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    fault = standin.api.faults.hold(verb="watch", resource="configmaps", times=1)
    with pytest.raises(Temporary) as caught:
        async for _ in api.watch(CONFIG_MAPS, "1"):
            pass
    assert caught.value.reason == "Unreachable"
    assert fault.struck == 1
