"""A cache hears of the same object from a list, a watch and from answers, in any order: the newest counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.cache import Cache, Changes
from provider.platforms.kubernetes.refusals import Expired, unreachable
from provider.platforms.kubernetes.resources import JOBS, PODS
from provider.platforms.kubernetes.watches import job_key

Object = dict[str, Any]


def job(version: int, uid: str = "u1", name: str = "b") -> Object:
    return {"kind": "Job", "metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}}


class Server:
    """What an API server says next: lists when it is asked, changes when the test tells them."""

    def __init__(self) -> None:
        self.lists: list[tuple[list[Object], str]] = []
        self.changes: asyncio.Queue[tuple[str, Object] | Exception] = asyncio.Queue()
        self.listed = 0
        self._asked = asyncio.Event()
        self.watched: list[str] = []
        self.restarted: list[str] = []

    async def pages(
        self, resource: object, *, metadata_only: bool = False
    ) -> AsyncGenerator[tuple[list[Object], str], None]:
        self.listed += 1
        self._asked.set()
        items, version = self.lists[min(self.listed, len(self.lists)) - 1]
        yield items[:1], version
        yield items[1:], version

    async def watch(
        self, resource: object, version: str, *, metadata_only: bool = False
    ) -> AsyncGenerator[tuple[str, Object], None]:
        self.watched.append(version)
        while True:
            change = await self.changes.get()
            try:
                if isinstance(change, Exception):
                    raise change
                yield change
            finally:
                self.changes.task_done()

    async def until_listed(self, times: int) -> None:
        """Wait until it was asked for so many lists."""
        async with asyncio.timeout(10):
            while self.listed < times:
                self._asked.clear()
                await self._asked.wait()
        await asyncio.sleep(0)

    async def say(self, *changes: tuple[str, Object] | Exception) -> None:
        """Tell changes, and wait until they were taken."""
        for change in changes:
            self.changes.put_nowait(change)
        await self.changes.join()
        await asyncio.sleep(0)


@asynccontextmanager
async def following(server: Server) -> AsyncGenerator[Cache, None]:
    cache = Cache(
        cast(Api, server),
        JOBS,
        lambda found: job_key(found["metadata"]["name"]),
        Changes(),
        restarted=server.restarted.append,
    )
    task = asyncio.create_task(cache.run())
    try:
        await cache.synced.wait()
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def known(cache: Cache) -> dict[str, str]:
    return {found["metadata"]["name"]: found["metadata"]["resourceVersion"] for found in cache.all()}


@pytest.fixture
def server() -> Server:
    made = Server()
    made.lists = [([job(5)], "10")]
    return made


async def test_a_watch_goes_on_where_the_list_ended(server: Server) -> None:
    async with following(server) as cache:
        await server.say(("MODIFIED", job(11)), ("BOOKMARK", job(15)), ("ADDED", job(16, "u2", "c")))
        assert known(cache) == {"b": "11", "c": "16"}
        assert server.watched == ["10"]


async def test_an_answer_is_not_undone_by_an_older_change(server: Server) -> None:
    async with following(server) as cache:
        cache.put(job(20))
        await server.say(("MODIFIED", job(12)))
        assert known(cache) == {"b": "20"}


async def test_an_older_answer_changes_nothing(server: Server) -> None:
    async with following(server) as cache:
        await server.say(("MODIFIED", job(20)))
        cache.put(job(12))
        assert known(cache) == {"b": "20"}


async def test_a_successor_of_the_same_name_stays(server: Server) -> None:
    """Made anew, the watch tells of the old one's end only now."""
    async with following(server) as cache:
        cache.put(job(30, "u2"))
        await server.say(("DELETED", job(25)))
        assert known(cache) == {"b": "30"}
        await server.say(("DELETED", job(31, "u2")))
        assert known(cache) == {}
        assert cache.of(job_key("b")) == []


async def test_what_was_deleted_here_does_not_come_back_with_a_late_change(server: Server) -> None:
    async with following(server) as cache:
        cache.put(job(12, "u2", "c"))
        cache.forget("c")
        await server.say(("ADDED", job(11, "u2", "c")), ("MODIFIED", job(12, "u2", "c")))
        assert "c" not in known(cache)
        await server.say(("DELETED", job(13, "u2", "c")), ("ADDED", job(14, "u3", "c")))
        assert "c" in known(cache)


async def test_a_new_list_removes_what_went_and_keeps_what_is_newer(server: Server) -> None:
    server.lists.append(([job(40, "u3", "c")], "40"))
    async with following(server) as cache:
        cache.put(job(45, "u4", "made-meanwhile"))
        cache.put(job(41, "u3", "c"))
        await server.say(Expired("too old"))
        await server.until_listed(2)
        assert known(cache) == {"made-meanwhile": "45", "c": "41"}
        assert server.restarted == ["Job"]


async def test_a_cut_watch_goes_on_from_what_it_saw_last(server: Server) -> None:
    async with following(server):
        await server.say(("MODIFIED", job(11)), unreachable("cut"))
        await server.say(("MODIFIED", job(12)))
        assert server.watched == ["10", "11"]
        assert (server.listed, server.restarted) == (1, ["Job"])


async def test_a_server_that_always_says_expired_is_asked_with_pauses(server: Server) -> None:
    began = asyncio.get_running_loop().time()
    async with following(server):
        for _ in range(4):
            server.changes.put_nowait(Expired("too old"))
        await server.until_listed(4)
        assert asyncio.get_running_loop().time() - began > 0.5


async def test_one_that_gets_on_in_between_is_asked_soon(server: Server) -> None:
    """However often its watch breaks: each time it told something new first."""
    async with following(server):
        began = asyncio.get_running_loop().time()
        for version in range(11, 16):
            await server.say(("MODIFIED", job(version)), unreachable("cut"))
        await server.say(("MODIFIED", job(20)))
        assert server.watched == ["10", "11", "12", "13", "14", "15"]
        assert asyncio.get_running_loop().time() - began < 1.5


TOLD = """{"kind": "Pod", "metadata": {"name": "%s", "uid": "%s", "resourceVersion": "1", "labels": {"app": "shop"},
    "managedFields": [{"manager": "kubelet"}]}, "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
    "status": {"phase": "Running"}, "apiVersion": "v1"}"""


def test_it_keeps_what_is_looked_at_and_shares_its_texts() -> None:
    """What a thousand previews cost is what is kept of ten thousand objects, each told by a text of its own."""
    cache = Cache(
        cast(Api, None), PODS, lambda found: str(found["metadata"]["name"]), Changes(), keep=("spec.nodeName", "status")
    )
    for number in range(2):
        cache.put(json.loads(TOLD % (f"pod-{number}", f"u{number}")))
    one, other = cache.all()
    metadata = {"name": "pod-0", "uid": "u0", "resourceVersion": "1", "labels": {"app": "shop"}}
    spec, status = {"nodeName": "node-1"}, {"phase": "Running"}
    assert one == {"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
    assert [id(key) for key in one["metadata"]] == [id(key) for key in other["metadata"]]
    assert one["status"]["phase"] is other["status"]["phase"]


def test_what_it_says_of_an_apply_is_what_it_keeps() -> None:
    """So that two answers can be compared: one was kept before, the other has just come."""
    cache = Cache(cast(Api, None), PODS, lambda found: str(found["metadata"]["name"]), Changes())
    assert cache.applied(json.loads(TOLD % ("pod", "u"))) == cache.get("pod")
    assert set(cache.all()[0]) == {"kind", "metadata"}
