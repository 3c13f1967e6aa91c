"""The line of several providers over one real bus: limits that hold across them, and nobody who waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client

from provider.background import ended
from provider.errors import Code, Permanent, Temporary
from provider.models import (
    RECORD_VERSION,
    DeployRecord,
    EventType,
    LineRecord,
    Owner,
    Phase,
    Report,
    Stage,
    StoredRequest,
    Ticket,
)
from provider.pipeline import line_check
from provider.pipeline.clock import Clock
from provider.pipeline.line import Line
from provider.pipeline.line_writer import LineWriter
from provider.store import Store, memory_store, open_store
from provider.store import line as rules
from provider.store.line import Limits
from provider.store.line_records import Known
from tests.bus.conftest import NatsServer
from tests.e2e.helpers import eventually

pytestmark = pytest.mark.timeout(60)

AT = datetime(2026, 1, 2, tzinfo=UTC)
NARROW = Limits(deploys=4, builds=2, builds_per_repository=1, queue=500)
ONE = Limits(deploys=1, builds=1, builds_per_repository=1, queue=2)
Told = list[tuple[str, Mapping[str, Any]]]


class Provider:
    """The line of one provider, what it told, and the store that it sees."""

    def __init__(self, store: Store, limits: Limits, instance: str) -> None:
        self.store = store
        self.instance = instance
        self.told: Told = []
        self.line = Line(store=store, limits=limits, emit=self._emit)

    def _emit(self, record: DeployRecord, kind: EventType, data: Mapping[str, Any]) -> None:
        assert kind is EventType.STATE
        self.told.append((record.deploy_id, data))

    async def present(self) -> LineRecord:
        return (await self.store.line.get()).line

    def record(self, number: int, repo: str = "acme/app", **fields: Any) -> DeployRecord:
        given: dict[str, Any] = {
            "platform_id": "here",
            "deploy_id": f"d{number}",
            "order": number,
            "owner": Owner(instance=self.instance, epoch=1),
            "fingerprint": "f",
            "request": StoredRequest(repo_full_name=repo, branch="main"),
            "created_at": AT,
            "deadline": AT + timedelta(hours=1),
        }
        return DeployRecord(**given | fields)

    async def begin(self, number: int, repo: str = "acme/app") -> DeployRecord:
        """Let a deploy wait for its turn."""
        record = self.record(number, repo)
        self.line.enter(record)
        return await self.line.turn(None, record)

    async def wait_for_build(self, number: int, repo: str = "acme/app") -> None:
        await self.line.build_turn(await self.begin(number, repo), Clock.endless())


Start = Callable[..., Awaitable[Provider]]


@pytest.fixture(params=["jetstream", "memory"])
async def stores(request: pytest.FixtureRequest, server: NatsServer, connect: Any, prefix: str) -> Any:
    """Opens the store that one more provider sees."""
    shared = memory_store("here")

    async def another(platform_id: str = "here") -> Store:
        if request.param == "memory":
            return Store(previews=shared._previews, deploys=shared._deploys, platform_id=platform_id)
        return await open_store(await connect(server.url), prefix.replace(".", "_"), platform_id, relist=1.0)

    return another


@pytest.fixture
async def start(stores: Any) -> AsyncIterator[Start]:
    """Starts providers; they end with the test."""
    async with AsyncExitStack() as ending:
        number = 0

        async def provider(limits: Limits = NARROW, platform_id: str = "here") -> Provider:
            nonlocal number
            number += 1
            started = Provider(await stores(platform_id), limits, f"p{number}")
            watching = asyncio.create_task(started.line.watch(lambda _: True))
            ending.push_async_callback(ended, [watching])
            ending.push_async_callback(started.line.close)
            return started

        yield provider


def at(found: LineRecord, stage: Stage) -> set[str]:
    return {one.deploy_id for one in found.tickets if one.stage is stage}


async def seen(provider: Provider, stage: Stage, *deploy_ids: str) -> None:
    """Wait until just these are in that stage."""

    async def there() -> bool:
        return at(await provider.present(), stage) == set(deploy_ids)

    await eventually(there, what=f"{stage}: {deploy_ids}")


class Count:
    """How many do something at once, in all and by repository, and the most there ever were."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most = self.most_of_one = 0

    def up(self, repo: str) -> None:
        self.now[repo] += 1
        self.most = max(self.most, self.now.total())
        self.most_of_one = max(self.most_of_one, self.now[repo])

    def down(self, repo: str) -> None:
        self.now[repo] -= 1


async def test_limits_hold_across_providers(start: Start) -> None:
    """Sixty deploys of five repositories, on three providers that all want at once."""
    providers = [await start() for _ in range(3)]
    deploys, builds = Count(), Count()

    async def deploy(number: int) -> None:
        provider, repo = providers[number % 3], f"acme/r{number % 5}"
        record = await provider.begin(number, repo)
        await provider.line.build_turn(record, Clock.endless())
        deploys.up(repo)
        builds.up(repo)
        await asyncio.sleep(0.002 * (number % 3))
        builds.down(repo)
        provider.line.built(record.deploy_id)
        deploys.down(repo)
        provider.line.leave(record.deploy_id)

    async with asyncio.timeout(40):
        await asyncio.gather(*(deploy(number) for number in range(60)))
    assert (builds.most, builds.most_of_one, deploys.most <= 4) == (2, 1, True)

    async def nobody() -> bool:
        return not (await providers[0].present()).tickets

    await eventually(nobody)


async def test_a_place_that_one_frees_is_anothers(start: Start) -> None:
    one, other = await start(ONE), await start(ONE)
    await one.wait_for_build(1)
    waiting = asyncio.create_task(other.wait_for_build(2))
    await seen(one, Stage.WAITING, "d2")
    one.line.leave("d1")
    await waiting
    assert at(await one.present(), Stage.BUILDING) == {"d2"}


async def test_a_deploy_that_is_cancelled_in_the_queue_is_gone_at_once(start: Start) -> None:
    one, other = await start(ONE), await start(ONE)
    await one.begin(1)
    waiting = [asyncio.create_task(other.begin(number)) for number in (2, 3)]
    await seen(one, Stage.WAITING, "d2", "d3")
    waiting[0].cancel()
    other.line.leave("d2")
    await seen(one, Stage.WAITING, "d3")
    one.line.leave("d1")
    await waiting[1]


async def test_waiting_for_a_build_does_not_run_down_a_phases_deadline(start: Start) -> None:
    one, other = await start(ONE), await start(ONE)
    await one.wait_for_build(1)
    record = other.record(2, phase=Phase.ROLLOUT)
    other.line.enter(record)
    begun = time.monotonic()
    clock = Clock(begun + 0.4, begun + 30)
    async with clock.running():
        building = asyncio.create_task(other.line.build_turn(record, clock))
        await seen(one, Stage.BUILD_WAITING, "d2")

        async def too_late() -> bool:
            return time.monotonic() > begun + 0.4

        await eventually(too_late)
        one.line.leave("d1")
        assert await building is True
        assert 0 < clock.deadline - time.monotonic() < 0.4
    with pytest.raises(TimeoutError):
        async with Clock(time.monotonic() + 0.1, time.monotonic() + 0.2).running():
            await asyncio.Event().wait()


async def test_a_taken_over_deploy_keeps_its_place(start: Start) -> None:
    one, other = await start(ONE), await start(ONE)
    await one.wait_for_build(1)
    waiting = asyncio.create_task(one.begin(2))
    await seen(other, Stage.WAITING, "d2")
    one.line.forget("d1")
    await other.wait_for_build(1)
    found = await other.present()
    assert (at(found, Stage.BUILDING), at(found, Stage.WAITING)) == ({"d1"}, {"d2"})
    assert found.tickets[0].instance == other.instance
    late = other.record(3, phase=Phase.ROLLOUT)
    other.line.enter(late)
    assert other.line.has_turn("d3"), "what is past its build goes on, whatever the line says"
    waiting.cancel()


async def test_who_waits_is_told_its_position_when_it_changes(start: Start) -> None:
    one, other = await start(ONE), await start(ONE)
    await one.begin(1)
    waiting = [asyncio.create_task(other.begin(number)) for number in (2, 3)]

    def told(deploy_id: str) -> list[int]:
        return [data["position"] for known, data in other.told if known == deploy_id]

    async def both() -> bool:
        return told("d2") == [1] and told("d3") == [2]

    await eventually(both)
    one.line.leave("d1")
    await waiting[0]

    async def first() -> bool:
        return told("d3") == [2, 1]

    await eventually(first)
    assert other.told[0] == ("d2", {"waits_for": "deploy", "position": 1, "of": 2})
    assert told("d2") == [1]
    other.line.leave("d2")
    await waiting[1]


async def test_a_full_queue_takes_nobody_on_any_provider(start: Start) -> None:
    providers = [await start(ONE) for _ in range(3)]
    asked = [providers[number % 3].line.reserve(f"d{number}", "acme/app", "i") for number in range(12)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    full = [answer for answer in answers if isinstance(answer, Temporary)]
    assert answers.count(True) == 3, "one runs, two wait"
    assert len(full) == 9
    assert {(error.code, error.delay) for error in full} == {(Code.QUEUE_FULL, 30.0)}
    taken = answers.index(True)
    assert await providers[0].line.reserve(f"d{taken}", "acme/app", "i") is False, "it stands there already"
    providers[0].line.give_back(f"d{taken}")

    async def room() -> bool:
        try:
            return await providers[1].line.reserve("new", "acme/app", "i")
        except Temporary:
            return False

    await eventually(room)


async def test_what_was_left_behind_is_taken_out(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are over, of one no record was ever made, one is under way."""
    monkeypatch.setattr(line_check, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(line_check, "LACKING_SECONDS", 0.3)
    one, other = await start(), await start()
    answer = Report(ok=True, deploy_id="d1")
    cases: tuple[dict[str, Any], ...] = ({"report": answer}, {"joins": "d9"}, {})
    for number, fields in enumerate(cases, 1):
        record = one.record(number, **fields)
        await one.store.create_deploy(record.model_copy(update={"order": None}))
        one.line.enter(record)
    one.line.enter(one.record(4))
    await seen(other, Stage.DEPLOYING, "d1", "d2", "d3", "d4")
    for number in range(1, 5):
        one.line.forget(f"d{number}")
    await seen(other, Stage.DEPLOYING, "d3")


async def test_a_dead_provider_keeps_nobody_waiting(start: Start) -> None:
    """What it had not given back yet is found by the one that comes next, not only at some later check."""
    dead = await start(ONE)
    over = dead.record(1, report=Report(ok=True, deploy_id="d1"))
    await dead.store.create_deploy(over.model_copy(update={"order": None}))
    dead.line.enter(over)
    await dead.line.turn(None, over)
    await dead.line.build_turn(over, Clock.endless())
    dead.line.forget("d1")
    async with asyncio.timeout(10):
        await (await start(ONE)).wait_for_build(2)


async def test_a_line_that_somebody_deletes_is_written_again(start: Start) -> None:
    one = await start(ONE)
    await one.wait_for_build(1)
    waiting = asyncio.create_task(one.begin(2))
    await seen(one, Stage.WAITING, "d2")
    await one.store._deploys.delete(one.store.line._key)
    await seen(one, Stage.BUILDING, "d1")
    await seen(one, Stage.WAITING, "d2")
    one.line.leave("d1")
    await waiting


async def test_another_installations_line_is_not_touched(start: Start) -> None:
    here, there = await start(ONE), await start(ONE, "there")
    await here.begin(1)
    await there.begin(2)
    assert at(await here.present(), Stage.DEPLOYING) == {"d1"}
    assert at(await there.present(), Stage.DEPLOYING) == {"d2"}


async def test_a_line_of_a_newer_provider_is_left_alone(start: Start) -> None:
    one = await start(ONE)
    newer = LineRecord(version=RECORD_VERSION + 1, platform_id="here")
    await one.store.line.write(newer, 0)
    with pytest.raises(Permanent) as refused:
        await one.begin(1)
    assert refused.value.reason == "NewerRecord"
    entry = await one.store._deploys.get(one.store.line._key)
    assert entry is not None
    assert LineRecord.model_validate_json(entry.value) == newer


async def test_many_deploys_of_one_provider_cost_few_writes(start: Start, stores: Any) -> None:
    """Two hundred at once; and one alone costs three writes: it enters, it wants to build, it leaves."""
    wide = Limits(deploys=500, builds=500, builds_per_repository=500, queue=500)
    provider = await start(wide)

    async def deploy(number: int) -> None:
        await provider.wait_for_build(number)
        provider.line.built(f"d{number}")
        provider.line.leave(f"d{number}")

    async def writes() -> int:
        return (await provider.store.line.get()).revision

    async def nobody() -> bool:
        return not (await provider.present()).tickets

    await deploy(0)
    await eventually(nobody)
    alone = await writes()
    assert alone <= 3
    async with asyncio.timeout(20):
        await asyncio.gather(*(deploy(number) for number in range(1, 201)))
    await eventually(nobody)
    assert await writes() - alone <= 40


async def test_the_line_outlasts_the_bus(
    start_server: Callable[..., NatsServer], connect: Callable[[str], Awaitable[Client]]
) -> None:
    own = start_server()
    first, second = [
        Provider(await open_store(await connect(own.url), "own", "here", relist=1.0), ONE, instance)
        for instance in ("p1", "p2")
    ]
    watching = [asyncio.create_task(one.line.watch(lambda _: False)) for one in (first, second)]
    await first.begin(1)
    waiting = asyncio.create_task(second.begin(2))
    await seen(first, Stage.WAITING, "d2")
    own.stop()
    first.line.leave("d1")
    own.start()
    async with asyncio.timeout(30):
        await waiting
    for one in (first, second):
        await one.line.close()
    await ended(watching)


def test_a_ticket_says_little() -> None:
    """The whole line is written each time: five hundred deploys have to be some tens of kilobytes."""
    ticket = Ticket(deploy_id="d" * 32, order=10**6, repo="a" * 12, instance="i" * 12, stage=Stage.BUILD_WAITING)
    line = LineRecord(platform_id="here", tickets=(ticket,) * 600)
    assert len(line.model_dump_json()) < 100_000


async def test_what_was_read_before_undoes_nothing_that_was_written_since() -> None:
    """Else a place that is given back is not there, by the line that is known, and stays."""
    records, asked, answered = memory_store("here").line, asyncio.Event(), asyncio.Event()
    get = records.get

    async def late() -> Known:
        known = await get()
        if not asked.is_set():
            asked.set()
            await answered.wait()
        return known

    async def silent() -> AsyncIterator[Known]:
        await asyncio.Event().wait()
        yield await get()

    records.get, records.watch = late, silent  # type: ignore[method-assign]
    writer = LineWriter(records, NARROW, seen=lambda _: None, failed=lambda _: None)
    watching = asyncio.create_task(writer.watch())
    await asked.wait()
    ticket = Ticket(deploy_id="d1", order=1, repo="acme/app", instance="one", stage=Stage.WAITING)
    for change in (rules.entered(ticket), rules.left(("d1",))):
        done = asyncio.get_running_loop().create_future()
        writer.write(change, done)
        await done
        answered.set()
        await asyncio.sleep(0.01)
    assert (await get()).line.tickets == ()
    await ended([watching])
