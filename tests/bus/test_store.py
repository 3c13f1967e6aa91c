"""The store: the same promises in memory and in JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client

from provider.errors import Code, Permanent, Temporary
from provider.models import (
    DeployRecord,
    Newest,
    Owner,
    PreviewRecord,
    PreviewState,
    Report,
    StoredRequest,
    Waiter,
)
from provider.store import DeployExists, Lost, Store, open_store
from provider.store.jetstream import JetStreamKeyValue, payload_limit
from provider.store.kv import Deleted, Entry, KeyExists, KeyValue, MemoryKeyValue, WrongRevision

from .conftest import NatsServer

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
Connect = Callable[[str], Awaitable[Client]]


def deploy(deploy_id: str = "d1", **fields: object) -> DeployRecord:
    return DeployRecord.model_validate(
        {
            "platform_id": "here",
            "deploy_id": deploy_id,
            "owner": Owner(instance="one", epoch=1),
            "fingerprint": "f",
            "request": StoredRequest(repo_full_name="acme/app", branch="main"),
            "created_at": AT,
            "deadline": AT,
            **fields,
        }
    )


def preview(slug: str = "my-app", **fields: object) -> PreviewRecord:
    return PreviewRecord.model_validate(
        {
            "platform_id": "here",
            "slug": slug,
            "repo_full_name": "acme/app",
            "branch": "main",
            "url": f"https://{slug}.example",
            "state": PreviewState.PROVISIONING,
            "newest": Newest(order=1, deploy_id="d1"),
            "last_access": AT,
            "created_at": AT,
            "updated_at": AT,
            **fields,
        }
    )


def grown(record: PreviewRecord | None) -> PreviewRecord:
    present = record or preview()
    return present.model_copy(update={"generation": present.generation + 1})


@pytest.fixture(params=["memory", "jetstream"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def buckets(kind: str, request: pytest.FixtureRequest, prefix: str) -> tuple[KeyValue, KeyValue]:
    if kind == "memory":
        return MemoryKeyValue(), MemoryKeyValue()
    nc: Client = request.getfixturevalue("nc")
    name = prefix.replace(".", "_")
    return (
        await JetStreamKeyValue.open(nc, f"{name}_previews", 1 << 26, relist=1.0),
        await JetStreamKeyValue.open(nc, f"{name}_deploys", 1 << 26, ttl=timedelta(hours=48), relist=1.0),
    )


@pytest.fixture
def kv(nc: Client, buckets: tuple[KeyValue, KeyValue]) -> KeyValue:
    return buckets[0]


@pytest.fixture
def store(nc: Client, buckets: tuple[KeyValue, KeyValue]) -> Store:
    return another(buckets)


def another(buckets: tuple[KeyValue, KeyValue], platform_id: str = "here") -> Store:
    """The store as another process sees it."""
    return Store(previews=buckets[0], deploys=buckets[1], platform_id=platform_id)


class TestKeyValue:
    async def test_create_get_update_delete(self, kv: KeyValue) -> None:
        assert await kv.get("a.b") is None
        first = await kv.create("a.b", b"1")
        second = await kv.update("a.b", b"2", first)
        entry = await kv.get("a.b")
        assert second > first
        assert entry is not None
        assert (entry.key, entry.value, entry.revision) == ("a.b", b"2", second)
        assert abs(datetime.now(UTC) - entry.created) < timedelta(minutes=1)
        await kv.delete("a.b")
        assert await kv.get("a.b") is None
        assert await kv.create("a.b", b"3") > second

    async def test_create_and_update_refuse_what_others_wrote(self, kv: KeyValue) -> None:
        first = await kv.create("a", b"1")
        with pytest.raises(KeyExists):
            await kv.create("a", b"2")
        await kv.put("a", b"3")
        for stale in (kv.update("a", b"4", first), kv.delete("a", first)):
            with pytest.raises(WrongRevision):
                await stale

    async def test_one_of_many_creators_wins(self, kv: KeyValue) -> None:
        results = await asyncio.gather(*(kv.create("a", b"%d" % n) for n in range(20)), return_exceptions=True)
        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, KeyExists) for result in results) == 19

    async def test_entries_of_an_empty_bucket_do_not_hang(self, kv: KeyValue) -> None:
        async with asyncio.timeout(2):
            assert await kv.entries("a.") == []

    async def test_entries_are_those_below_the_prefix(self, kv: KeyValue) -> None:
        for n in range(600):
            await kv.put(f"a.{n}", b"%d" % n)
        await kv.put("b.1", b"x")
        await kv.put("a.5", b"new")
        await kv.delete("a.6")
        found = {entry.key: entry.value for entry in await kv.entries("a.")}
        assert len(found) == 599
        assert found["a.5"] == b"new"
        assert [entry.key for entry in await kv.entries("b.1")] == ["b.1"]

    async def test_watch_shows_what_is_there_and_what_changes(self, kv: KeyValue) -> None:
        await kv.put("a.1", b"1")
        await kv.put("b.1", b"1")
        changes = kv.watch("a.")
        async with asyncio.timeout(10):
            assert _brief(await anext(changes)) == ("a.1", b"1")
            await kv.put("a.2", b"2")
            assert _brief(await anext(changes)) == ("a.2", b"2")
            await kv.delete("a.1")
            assert await anext(changes) == Deleted("a.1")
            await kv.put("a.2", b"3")
            assert _brief(await anext(changes)) == ("a.2", b"3")
        await _close(changes)

    async def test_the_largest_value_is_kept_and_a_larger_one_refused(self, kv: KeyValue, nc: Client) -> None:
        limit = payload_limit(nc)
        await kv.put("a.1", b"x" * limit)
        assert len((await kv.entries("a."))[0].value) == limit
        entry = await kv.get("a.1")
        assert entry is not None
        with pytest.raises(Permanent) as caught:
            await kv.put("a.2", b"x" * (limit + 1))
        assert (caught.value.code, caught.value.reason) == (Code.INTERNAL_ERROR, "RecordTooLarge")
        assert nc.is_connected


def _brief(change: Entry | Deleted) -> tuple[str, bytes]:
    assert isinstance(change, Entry)
    return change.key, change.value


async def _close(changes: AsyncIterator[Entry | Deleted]) -> None:
    await changes.aclose()  # type: ignore[attr-defined]


class TestMemoryExpires:
    async def test_after_its_time_to_live(self) -> None:
        kv = MemoryKeyValue(ttl=timedelta(0))
        await kv.create("a", b"1")
        assert await kv.get("a") is None
        assert await kv.entries("a") == []
        await kv.create("a", b"2")


class TestDeploys:
    async def test_the_order_is_that_of_creation(self, store: Store) -> None:
        first = await store.create_deploy(deploy("d1"))
        between = await store.next_order("my-app")
        second = await store.create_deploy(deploy("d2"))
        assert first.order is not None
        assert second.order is not None
        assert first.order < between < second.order

    async def test_is_read_with_its_order_before_and_after_saving(self, store: Store) -> None:
        made = await store.create_deploy(deploy())
        assert await store.get_deploy("d1") == made
        await store.save_deploy(made.model_copy(update={"slug": "my-app"}))
        read = await store.get_deploy("d1")
        assert read is not None
        assert (read.order, read.slug) == (made.order, "my-app")
        assert await store.get_deploy("none") is None

    async def test_exists_once(self, store: Store) -> None:
        made = await store.create_deploy(deploy())
        with pytest.raises(DeployExists) as caught:
            await store.create_deploy(deploy(fingerprint="other"))
        assert caught.value.existing == made

    async def test_creating_again_after_a_lost_answer_succeeds(self, store: Store) -> None:
        assert await store.create_deploy(deploy()) == await store.create_deploy(deploy())

    async def test_only_the_owner_saves(self, store: Store, buckets: tuple[KeyValue, KeyValue]) -> None:
        made = await store.create_deploy(deploy())
        other = another(buckets)
        with pytest.raises(Lost):
            await other.save_deploy(made.model_copy(update={"owner": Owner(instance="two", epoch=2)}))
        [found] = await other.unfinished_deploys()
        taken = found.model_copy(update={"owner": Owner(instance="two", epoch=2)})
        await other.save_deploy(taken)
        await other.save_deploy(taken.model_copy(update={"slug": "x"}))
        for _ in range(2):
            with pytest.raises(Lost):
                await store.save_deploy(made)

    async def test_of_two_that_take_over_one_wins(self, store: Store, buckets: tuple[KeyValue, KeyValue]) -> None:
        await store.create_deploy(deploy())

        takers = [another(buckets), another(buckets)]
        for taker in takers:
            await taker.unfinished_deploys()
        results = await asyncio.gather(
            *(taker.save_deploy(deploy(owner=Owner(instance=f"i{n}", epoch=2))) for n, taker in enumerate(takers)),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["Lost", "NoneType"]

    async def test_a_write_of_ours_that_was_thought_lost_is_no_loss(
        self, store: Store, buckets: tuple[KeyValue, KeyValue]
    ) -> None:
        made = await store.create_deploy(deploy())
        await buckets[1].put("deploy.d1", made.model_copy(update={"slug": "late"}).model_dump_json().encode())
        await store.save_deploy(made.model_copy(update={"slug": "now"}))
        read = await store.get_deploy("d1")
        assert read is not None
        assert read.slug == "now"

    async def test_unfinished_are_those_without_end_or_answer(self, store: Store) -> None:
        waiting = Waiter(reply="inbox", deadline=AT)
        answered = Waiter(reply="inbox", deadline=AT, answered=True)
        await store.create_deploy(deploy("running"))
        await store.create_deploy(deploy("unanswered", finished_at=AT, waiters=(waiting, answered)))
        await store.create_deploy(deploy("done", finished_at=AT, waiters=(answered,)))
        assert [record.deploy_id for record in await store.unfinished_deploys()] == ["running", "unanswered"]

    async def test_wait_until_there_is_a_report(self, store: Store) -> None:
        made = await store.create_deploy(deploy())
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(store.wait_deploy("d1", lambda record: record.report is not None))
            await store.save_deploy(made.model_copy(update={"slug": "my-app"}))
            done = made.model_copy(update={"report": Report(ok=True, deploy_id="d1"), "finished_at": AT})
            await store.save_deploy(done)
        assert waiting.result() == done

    async def test_waiting_is_prompt_while_the_record_is_rewritten(self, store: Store) -> None:
        # A listing that trusted the server's count of pending messages stood still here, one time in five.
        async def one(deploy_id: str) -> None:
            made = await store.create_deploy(deploy(deploy_id))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(store.wait_deploy(deploy_id, lambda record: record.slug == "b"))
                for slug in ("a", "b"):
                    await store.save_deploy(made.model_copy(update={"slug": slug}))

        async with asyncio.timeout(4):
            for n in range(40):
                await one(f"d{n}")

    async def test_waiting_for_nothing_is_not_found(self, store: Store) -> None:
        with pytest.raises(Permanent) as caught:
            await store.wait_deploy("none", lambda _: True)
        assert caught.value.code is Code.NOT_FOUND


class TestPreviews:
    async def test_changes_are_applied_one_after_the_other(
        self, store: Store, buckets: tuple[KeyValue, KeyValue]
    ) -> None:
        writers = [another(buckets) for _ in range(8)]
        await asyncio.gather(*(writer.change_preview("my-app", grown) for writer in writers for _ in range(2)))
        record = await store.get_preview("my-app")
        assert record is not None
        assert record.generation == 16

    async def test_an_equal_record_is_not_written(self, store: Store, buckets: tuple[KeyValue, KeyValue]) -> None:
        await store.change_preview("my-app", grown)
        before = await buckets[0].get("preview.my-app")
        await store.change_preview("my-app", lambda record: record or preview())
        assert await buckets[0].get("preview.my-app") == before

    async def test_what_another_wrote_since_counts(self, store: Store, buckets: tuple[KeyValue, KeyValue]) -> None:
        def second_only(record: PreviewRecord | None) -> PreviewRecord:
            if record is None or record.generation != 2:
                raise Permanent(Code.SUPERSEDED, "not the second")
            return grown(record)

        await store.change_preview("my-app", grown)
        await another(buckets).change_preview("my-app", grown)
        assert (await store.change_preview("my-app", second_only)).generation == 3
        await another(buckets).change_preview("my-app", grown)
        assert (await store.change_preview("my-app", grown)).generation == 5

    async def test_a_reducer_s_error_passes_through(self, store: Store) -> None:
        def refuse(_: PreviewRecord | None) -> PreviewRecord:
            raise Permanent(Code.SLUG_TAKEN, "taken")

        with pytest.raises(Permanent, match="taken"):
            await store.change_preview("my-app", refuse)
        assert await store.get_preview("my-app") is None

    async def test_removed_ones_are_not_listed_and_purged_when_old(
        self, store: Store, buckets: tuple[KeyValue, KeyValue], nc: Client, prefix: str
    ) -> None:
        old, young = datetime.now(UTC) - timedelta(days=8), datetime.now(UTC)
        for slug, removed_at in (("old", old), ("young", young), ("live", None)):
            await store.change_preview(slug, lambda _, s=slug, r=removed_at: preview(s, removed_at=r))  # type: ignore[misc]
        assert [record.slug for record in await store.previews()] == ["live"]
        assert await store.purge_removed(timedelta(days=7)) == 1
        assert [await store.get_preview(slug) is None for slug in ("old", "young", "live")] == [True, False, False]
        if isinstance(buckets[0], JetStreamKeyValue):
            info = await nc.jetstream().stream_info(f"KV_{prefix.replace('.', '_')}_previews")
            assert info.state.messages == 2, "not even a marker is kept"

    async def test_watch(self, store: Store) -> None:
        await store.change_preview("my-app", grown)
        changes = store.watch_previews()
        async with asyncio.timeout(10):
            assert (await anext(changes)).generation == 1
            await store.change_preview("my-app", grown)
            assert (await anext(changes)).generation == 2
        await changes.aclose()  # type: ignore[attr-defined]


class TestOthersRecords:
    async def test_another_installation_s_are_invisible_and_untouched(
        self, store: Store, buckets: tuple[KeyValue, KeyValue]
    ) -> None:
        theirs = another(buckets, "there")
        await theirs.change_preview("my-app", lambda _: preview(platform_id="there"))
        await theirs.create_deploy(deploy(platform_id="there"))
        assert await store.get_preview("my-app") is None
        assert await store.get_deploy("d1") is None
        assert (await store.previews(), await store.unfinished_deploys()) == ([], [])
        for change in (store.change_preview("my-app", grown), store.create_deploy(deploy())):
            with pytest.raises(Permanent) as caught:
                await change
            assert caught.value.reason == "OtherInstallation"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [(b'{"version": 99}', "NewerRecord"), (b"{", "UnreadableRecord"), (b'{"version": 1}', "UnreadableRecord")],
    )
    async def test_newer_and_broken_ones_are_refused_skipped_and_left_alone(
        self, store: Store, buckets: tuple[KeyValue, KeyValue], value: bytes, reason: str
    ) -> None:
        revision = await buckets[0].put("preview.my-app", value)
        for access in (store.get_preview("my-app"), store.change_preview("my-app", grown)):
            with pytest.raises(Permanent) as caught:
                await access
            assert (caught.value.code, caught.value.reason) == (Code.INTERNAL_ERROR, reason)
        assert await store.previews() == []
        entry = await buckets[0].get("preview.my-app")
        assert entry is not None
        assert entry.revision == revision


class TestRestarts:
    async def test_watch_and_wait_survive_one(
        self, start_server: Callable[..., NatsServer], connect: Connect, prefix: str
    ) -> None:
        server = start_server()
        store = await open_store(await connect(server.url), prefix.replace(".", "_"), "here", relist=0.5)
        made = await store.create_deploy(deploy())
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(store.wait_deploy("d1", lambda record: record.report is not None))
            server.restart()
            done = made.model_copy(update={"report": Report(ok=True, deploy_id="d1")})
            while True:
                with suppress(Temporary):
                    await store.save_deploy(done)
                    break
        assert waiting.result() == done

    async def test_a_lost_stream_is_not_an_empty_one(
        self, start_server: Callable[..., NatsServer], connect: Connect, prefix: str
    ) -> None:
        nc = await connect(start_server().url)
        name = prefix.replace(".", "_")
        store = await open_store(nc, name, "here")
        await nc.jetstream().delete_stream(f"KV_{name}_previews")
        for access in (store.get_preview("x"), store.previews(), store.change_preview("x", grown)):
            with pytest.raises(Temporary):
                await access

    async def test_buckets_are_opened_again(self, nc: Client, prefix: str) -> None:
        first = await open_store(nc, prefix.replace(".", "_"), "here")
        made = await first.create_deploy(deploy())
        again = await open_store(nc, prefix.replace(".", "_"), "here")
        assert await again.get_deploy("d1") == made
