"""Whatever the Kubernetes API or the container engine answers: an error of ours, or what was asked for.

Both are the platform's own and trusted; but a proxy between, a version that is not known or a bug answers, too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.platforms.container.engine import Engine
from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.pod_log import LINE_BYTES, last_lines
from provider.platforms.kubernetes.refusals import Expired, Refused
from provider.settings import Settings
from tests.fuzz.hostile import JSON, Hostile, Reply, endless, hostile_server, http, replies
from tests.fuzz.test_answers import MOST_SAID, harmless

FUZZ = settings.get_profile("fuzz")
MOST_TAKEN = 48 << 20
"""Bytes of one answer: a list of many objects may be large."""
SLUG = "x/slug"
NAME: dict[str, Any] = {"name": "app", "uid": "u", "resourceVersion": "7"}
OBJECT: dict[str, Any] = {"kind": "ConfigMap", "metadata": NAME, "spec": {}, "status": {"allowed": True}}
SEEN = {"Id": "i", "State": {}, "Config": {"Tty": False}, "labels": {SLUG: "app"}, "name": "n", "Type": "container",
        "Action": "died", "Actor": {"Attributes": {SLUG: "app", "name": "n", "containerExitCode": "1"}},
        "version": {"Version": "4"}, "host": {"ociRuntime": {"name": "crun"}},
        "store": {"graphRoot": "/", "graphDriverName": "x"}}  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, right: Any) -> Any:
    """What is right, but for one part of it: something else, or not there."""
    if not isinstance(right, dict | list) or not right or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(right) if isinstance(right, dict) else range(len(right))))
    if draw(st.integers(0, 4)) == 0:
        left = dict(right) if isinstance(right, dict) else list(right)
        del left[key]
        return left
    part = draw(spoilt(right[key]))
    if isinstance(right, dict):
        return {**right, key: part}
    return [*right[:key], part, *right[key + 1 :]]


def answers(*rights: Any) -> st.SearchStrategy[list[Reply]]:
    """Answers one after the other: right ones that are spoilt a little, and any others."""
    bodies = st.one_of([st.just(one) | spoilt(one) for one in rights]).map(lambda one: json.dumps(one).encode() + b"\n")
    like = st.builds(
        lambda status, some: http(status, b"".join(some), Content_Type="application/json"),
        st.just(200) | st.sampled_from([201, 204, 404, 409, 410, 429, 500]),
        st.lists(bodies, min_size=1, max_size=3),
    )
    return st.lists(like | like | replies("metadata", "items", "message", "status", "Id"), min_size=1, max_size=3)


async def drained(some: AsyncIterable[object]) -> None:
    """Everything of it."""
    async for _ in some:
        pass


async def judged(call: Callable[[], Awaitable[object]]) -> None:
    """As `harmless`; what the package keeps for itself is fine, too, and says no more either."""
    try:
        await harmless(call)
    except (Refused, Expired) as error:
        if len(str(error)) > MOST_SAID:
            raise AssertionError("the error says too much") from error


# ----------------------------------------------------------------------- the API


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Hostile, Api]]:
    kubeconfig = tmp_path_factory.mktemp("api") / "kubeconfig"
    async with hostile_server() as hostile:
        name, at = {"name": "x"}, {"server": f"http://{hostile.address}"}
        parts = {"clusters": [{**name, "cluster": at}], "users": [{**name, "user": {}}], "current-context": "x"}
        parts["contexts"] = [{**name, "context": {"cluster": "x", "user": "x"}}]
        kubeconfig.write_text(json.dumps(parts))
        api = await Api.connect(Settings(kubeconfig=kubeconfig))
        yield hostile, api
        await api.close()


def asked_of(api: Api) -> Iterable[Callable[[], Awaitable[object]]]:
    """Every call that there is."""
    kind, body = resources.CONFIG_MAPS, {"metadata": {"name": "app"}}
    yield lambda: api.get(kind, "app")
    yield lambda: drained(api.pages(kind))
    yield lambda: api.create(kind, body)
    yield lambda: api.update(kind, body)
    yield lambda: api.apply(kind, body)
    yield lambda: api.edit(kind, "app", [])
    yield lambda: api.delete(kind, "app", uid="u")
    yield lambda: api.may(kind, "get")
    yield api.version
    yield lambda: drained(api.watch(kind, "7"))


@FUZZ
@given(told=answers(OBJECT, {"items": [OBJECT, OBJECT], "metadata": {"resourceVersion": "7", "continue": "x"}},
                    {"type": "ADDED", "object": OBJECT}, {"type": "ERROR", "object": {"code": 410, "message": "old"}},
                    {"message": "no", "reason": "NotFound", "code": 404}))  # fmt: skip
async def test_answers_of_the_kubernetes_api(cluster: tuple[Hostile, Api], told: list[Reply]) -> None:
    hostile, api = cluster
    for call in (*asked_of(api), lambda: last_lines(api, resources.POD_LOGS, "pod", 5)):
        hostile.tell(*told)
        await judged(call)
        assert hostile.asked


async def test_a_kubernetes_api_without_end(cluster: tuple[Hostile, Api]) -> None:
    hostile, api = cluster
    page = json.dumps({"items": [OBJECT] * 5000, "metadata": {"resourceVersion": "7", "continue": "x"}}).encode()
    for reply in (endless(), endless(403), endless(begin=b'{"items": [', more=b"0,"), http(200, page)):
        for call in asked_of(api):
            hostile.tell(reply)
            await judged(call)
            assert hostile.sent < MOST_TAKEN
    hostile.tell(endless(more=b"a"))
    (line,) = await last_lines(api, resources.POD_LOGS, "pod", 5)
    assert len(line) <= LINE_BYTES


# -------------------------------------------------------------------- the engine


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Hostile, Engine]]:
    async with hostile_server(tmp_path_factory.mktemp("engine") / "engine.sock") as hostile:
        engine = Engine(hostile.address, SLUG)
        yield hostile, engine
        await engine.close()


def asked_of_the(engine: Engine) -> Iterable[Callable[[], Awaitable[object]]]:
    """Every call that there is."""
    yield engine.part
    yield lambda: engine.container("app")
    yield lambda: engine.containers(a="b")
    yield lambda: engine.create("app", {})
    yield lambda: engine.start("app")
    yield lambda: engine.stop("app", 1)
    yield lambda: engine.restart("app", 1)
    yield lambda: engine.remove("app")
    yield lambda: engine.log("app", 5)
    yield lambda: drained(engine.log_stream("app", {}))
    yield lambda: engine.happened({SLUG: "app"})
    yield lambda: engine.exit_codes("n")
    yield lambda: drained(engine.endings())
    yield lambda: engine.has_image("image")
    yield lambda: engine.exists("image")
    yield lambda: engine.image_id("image")
    yield engine.image_folder
    yield lambda: engine.tag("id", "image:tag")
    yield lambda: engine.pull("registry.test/image@sha256:0")
    yield lambda: engine.network("app")
    yield lambda: engine.create_network("app", "bridge", {})
    yield engine.networks
    yield lambda: engine.labelled_networks(a="b")
    yield lambda: engine.remove_network("app")


@settings(FUZZ, max_examples=max(8, FUZZ.max_examples // 3))
@given(told=answers(SEEN, [SEEN, SEEN], [{**SEEN, "labels": None}], {"message": "no", "cause": "no"}))
async def test_answers_of_the_engine(engine: tuple[Hostile, Engine], told: list[Reply]) -> None:
    hostile, asked = engine
    for call in asked_of_the(asked):
        hostile.tell(*told)
        await harmless(call)
        assert hostile.asked


async def test_an_engine_without_end(engine: tuple[Hostile, Engine]) -> None:
    hostile, asked = engine
    frames = b"\1\0\0\0\xff\xff\xff\xff"
    for reply in (endless(), endless(500), endless(begin=b"[", more=b"0,"), endless(begin=frames, more=b"a")):
        for call in asked_of_the(asked):
            hostile.tell(reply)
            await harmless(call)
            assert hostile.sent < MOST_TAKEN
