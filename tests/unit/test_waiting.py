"""`wait`: answered at once, when it comes true, when it never can, when time is up; hundreds wait on one watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest

from provider.bus.endpoints import Incoming
from provider.errors import Code, InvalidRequest, PreviewError
from provider.models import DeployRecord, Newest, Owner, PreviewRecord, PreviewState, Report, StoredRequest, now
from provider.settings import Settings
from provider.store import Store
from provider.store.kv import Deleted, Entry, MemoryKeyValue
from provider.waiting import Waiting

REQUEST = StoredRequest(repo_full_name="acme/shop", branch="main")


class Counting(MemoryKeyValue):
    """A bucket that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.watches = 0

    async def get(self, key: str) -> Entry | None:
        self.reads += 1
        return await super().get(key)

    async def watch(self, prefix: str) -> AsyncIterator[Entry | Deleted]:
        self.watches += 1
        async for change in super().watch(prefix):
            yield change


def preview(state: PreviewState, **fields: Any) -> PreviewRecord:
    at = now()
    known = {"platform_id": "p", "slug": "shop", "repo_full_name": "acme/shop", "branch": "main", "url": "https://x"}
    return PreviewRecord(
        **known,
        state=state,
        newest=Newest(order=1, deploy_id="d"),
        last_access=at,
        created_at=at,
        updated_at=at,
        **fields,
    )


def deploy(deploy_id: str, *, ok: bool | None = None) -> DeployRecord:
    return DeployRecord(
        platform_id="p",
        deploy_id=deploy_id,
        owner=Owner(instance="i", epoch=1),
        fingerprint="f",
        request=REQUEST,
        created_at=now(),
        deadline=now() + timedelta(seconds=60),
        report=None if ok is None else Report(ok=ok, deploy_id=deploy_id),
    )


@pytest.fixture
def deploys() -> Counting:
    return Counting()


@pytest.fixture
def store(deploys: Counting) -> Store:
    return Store(previews=MemoryKeyValue(), deploys=deploys, platform_id="p")


@pytest.fixture
async def waiting(store: Store) -> AsyncIterator[Waiting]:
    one = Waiting(cast(Any, type("Ctx", (), {"store": store, "settings": Settings(preview_domain="p")})))

    async def watch() -> None:
        async for changed in store.watch_previews():
            one.on_preview(changed)

    task = asyncio.create_task(watch())
    yield one
    task.cancel()
    await one.close()


def asked(waiting: Waiting, **body: Any) -> asyncio.Task[dict[str, Any]]:
    return asyncio.create_task(waiting.wait(Incoming({"timeout_seconds": 10, **body}, "reply", now())))


async def refused(waiting: Waiting, **body: Any) -> PreviewError:
    with pytest.raises(PreviewError) as caught:
        await asked(waiting, **body)
    return caught.value


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_is_so_already_is_answered_at_once(waiting: Waiting, store: Store) -> None:
    await store.change_preview("shop", lambda _: preview(PreviewState.READY))
    await store.create_deploy(deploy("d-1", ok=False))
    answer = await asked(waiting, slug="shop")
    assert (answer["ok"], answer["state"], answer["timed_out"], answer["deploy_id"]) == (True, "ready", False, "d")
    answer = await asked(waiting, deploy_id="d-1", **{"for": ["failed"]})
    assert (answer["state"], answer["timed_out"]) == ("failed", False)
    assert not {"staged", "waiters", "fingerprint", "spec_text"} & answer.keys()


async def test_what_comes_true_is_answered_then(waiting: Waiting, store: Store) -> None:
    await store.change_preview("shop", lambda _: preview(PreviewState.PROVISIONING))
    one, other = asked(waiting, slug="shop"), asked(waiting, slug="shop", **{"for": ["removing"]})
    await settled()
    assert not one.done()
    await store.change_preview("shop", lambda _: preview(PreviewState.FAILED))
    assert (await one)["state"] == "failed"
    await store.change_preview("shop", lambda _: preview(PreviewState.REMOVING))
    assert (await other)["state"] == "removing"


async def test_time_that_is_up_is_told_with_the_record_as_it_is(waiting: Waiting, store: Store) -> None:
    await store.change_preview("shop", lambda _: preview(PreviewState.PROVISIONING))
    answer = await asked(waiting, slug="shop", timeout_seconds=0)
    assert (answer["ok"], answer["state"], answer["timed_out"]) == (True, "provisioning", True)


async def test_what_is_not_there_or_goes_is_not_found(waiting: Waiting, store: Store) -> None:
    assert (await refused(waiting, slug="shop")).code is Code.NOT_FOUND
    assert (await refused(waiting, deploy_id="d-1")).code is Code.NOT_FOUND
    await store.change_preview("shop", lambda _: preview(PreviewState.READY))
    gone = asyncio.create_task(refused(waiting, slug="shop", **{"for": ["failed"]}))
    await settled()
    await store.change_preview("shop", lambda _: preview(PreviewState.REMOVING, removed_at=now()))
    assert (await gone).reason == "PreviewNotFound"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "slug or deploy_id"),
        ({"slug": "shop", "deploy_id": "d"}, "not both"),
        ({"slug": "shop", "for": ["up"]}, "for[0]: found \"up\", allowed 'provisioning', 'ready'"),
        ({"slug": "shop", "for": []}, "for"),
        ({"slug": "shop", "timeout_seconds": 61}, "timeout_seconds: found 61"),
    ],
)
async def test_a_wrong_request_names_field_value_and_what_is_allowed(
    waiting: Waiting, body: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await waiting.wait(Incoming(body, "reply", now()))
    assert says in " ".join((caught.value.message, *caught.value.evidence))


async def test_hundreds_wait_on_one_watch_and_ask_the_store_once_each(
    waiting: Waiting, store: Store, deploys: Counting
) -> None:
    records = [await store.create_deploy(deploy(f"d-{number}")) for number in range(300)]
    tasks = [asked(waiting, deploy_id=record.deploy_id) for record in records]
    await settled()
    reads = deploys.reads
    assert (deploys.watches, reads) == (1, 300)
    for record in records:
        await store.save_deploy(record.model_copy(update={"report": Report(ok=True, deploy_id=record.deploy_id)}))
    answers = await asyncio.gather(*tasks)
    assert {answer["state"] for answer in answers} == {"ready"}
    assert (deploys.watches, deploys.reads) == (1, reads)


async def test_who_waits_at_a_provider_that_ends_is_let_go(waiting: Waiting, store: Store) -> None:
    await store.create_deploy(deploy("d-1"))
    one = asked(waiting, deploy_id="d-1")
    await settled()
    await waiting.close()
    assert (await one)["timed_out"]
    assert (await asked(waiting, deploy_id="d-1"))["timed_out"], "whoever comes yet does not wait"
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "watch deploys"]
