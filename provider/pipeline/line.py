"""The line as one provider sees it: its deploys stand in it, wait for their turns, and leave it.

All providers of an installation share one record (`store.line_records`), so its limits hold across them. Whoever's
write frees a place gives it to the next, whoever runs that; the others learn it by a watch.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from provider.errors import Code, PreviewError, Temporary
from provider.models import DeployRecord, EventType, LineRecord, Phase, Stage, Ticket, short_repo
from provider.pipeline.clock import Clock
from provider.pipeline.line_check import LineCheck
from provider.pipeline.line_writer import LineWriter
from provider.settings import Settings
from provider.store import Store
from provider.store import line as rules

log = structlog.get_logger(__name__)

POSITION_SECONDS = 1.0
"""How often at most positions are told."""
CLEARLY_FREE = 100
"""With that much room in the queue a request is taken without asking the shared record first."""
RESERVE_SECONDS = 10.0
CLUSTER_BUILDS = 10
WAITS_FOR_A_TURN = {Phase.RESOLVE, Phase.ADMIT, Phase.BUILD}
"""Phases of a deploy that waits for its turn; one that is taken over later than in these goes on at once."""

Emit = Callable[[DeployRecord, EventType, Mapping[str, Any]], None]
"""Publishes an event of a deploy; never blocks, never fails."""
Waited = Callable[[str, float], None]


def limits_of(settings: Settings) -> rules.Limits:
    """The limits that the settings mean on this platform."""
    usual = (os.cpu_count() or 1) + 1 if settings.platform == "container" else CLUSTER_BUILDS
    builds = settings.builds_at_once or usual
    return rules.Limits(
        deploys=settings.deploys_at_once,
        builds=builds,
        builds_per_repository=settings.builds_per_repository or max(1, builds - 1),
        queue=settings.queue_length,
    )


@dataclass(slots=True)
class _Place:
    """A deploy of this process in the line.

    `ticket` is what the line showed last, `written` whether it did; `waited` whether it showed the deploy waiting for
    its build; `since` when it began to wait for its turn; `told` what the deploy was told last; `failed` why the line
    is of no use.
    """

    record: DeployRecord
    ticket: Ticket
    written: bool = False
    waited: bool = False
    told: tuple[Stage, int] | None = None
    failed: PreviewError | None = None
    since: float = field(default_factory=time.monotonic)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """The deploys of one provider in the line.

    Args:
        store: has the shared record, and those of deploys.
        limits: how many may run and wait.
        emit: takes what a deploy that waits is told.
        waited: told what a deploy waited for (deploy or build), and for how many seconds, when its turn comes.
    """

    def __init__(self, *, store: Store, limits: rules.Limits, emit: Emit, waited: Waited | None = None) -> None:
        self._limits = limits
        self._emit = emit
        self._waited = waited or (lambda *_: None)
        self._writer = LineWriter(store.line, limits, seen=self._see, failed=self._fail)
        self._places: dict[str, _Place] = {}
        self._check = LineCheck(store=store, writer=self._writer, limits=limits, own=self._places)
        self._announcing: asyncio.TimerHandle | None = None
        self._announced_at = 0.0

    async def watch(self, mine: Callable[[str], bool]) -> None:
        """Learn what others write, and take out what they left, where that is `mine` to do; for ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._writer.watch())
            both.create_task(self._check.run(mine))

    async def close(self) -> None:
        """Give back what is to be given back; deploys under way keep their places."""
        if self._announcing is not None:
            self._announcing.cancel()
        await self._writer.close()

    def stages(self) -> Counter[Stage]:
        """How many deploys stand where, of all providers, as the line was seen last."""
        line = self._writer.line
        return Counter(ticket.stage for ticket in line.tickets) if line is not None else Counter()

    def own_stages(self) -> Counter[Stage]:
        """The same of this provider's deploys."""
        return Counter(place.ticket.stage for place in self._places.values())

    # -------------------------------------------------------------------------- requests

    async def reserve(self, deploy_id: str, repo_full_name: str, instance: str) -> bool:
        """See that there is room for a deploy that is to be accepted; whether a place was written for it.

        Raises:
            Temporary: `queue_full`; its delay is when to ask again, in seconds.
        """
        if deploy_id in self._places or self._clearly_free():
            return False
        ticket = Ticket(
            deploy_id=deploy_id, order=0, repo=short_repo(repo_full_name), instance=instance, stage=Stage.WAITING
        )
        reserved, fresh = rules.reserved(ticket, self._limits), False

        def change(line: LineRecord) -> LineRecord:
            nonlocal fresh
            after = reserved(line)
            fresh = after is not line
            return after

        done = asyncio.get_running_loop().create_future()
        self._writer.write(change, done)
        try:
            async with asyncio.timeout(RESERVE_SECONDS):
                await done
        except TimeoutError:
            self.give_back(deploy_id)
            raise Temporary(
                Code.PLATFORM_UNREACHABLE,
                "The line of deploys could not be written.",
                reason="StoreUnreachable",
                hint="Check the bus at NATS_URL, and that its JetStream has room.",
            ) from None
        return fresh

    def give_back(self, deploy_id: str) -> None:
        """The request was not accepted after all."""
        if deploy_id not in self._places:
            self._writer.write_later(rules.left((deploy_id,)))

    def _clearly_free(self) -> bool:
        line = self._writer.line
        return line is not None and self._limits.queue - rules.queued(line, self._limits) - self._new > CLEARLY_FREE

    # --------------------------------------------------------------------------- deploys

    def enter(self, record: DeployRecord) -> None:
        """Let the deploy stand in the line; nothing happens if it does."""
        if record.deploy_id in self._places:
            return
        ticket = Ticket(
            deploy_id=record.deploy_id,
            order=record.order or 0,
            repo=short_repo(record.request.repo_full_name),
            instance=record.owner.instance,
            stage=Stage.WAITING if record.phase in WAITS_FOR_A_TURN else Stage.DEPLOYING,
        )
        self._places[record.deploy_id] = _Place(record, ticket)
        self._writer.write(rules.entered(ticket))

    def may_begin(self, deploy_id: str) -> bool:
        """Whether it is the deploy's turn, or will most likely be at once: then reading can begin."""
        line = self._writer.line
        if self.has_turn(deploy_id) or line is None:
            return self.has_turn(deploy_id)
        stages = [ticket.stage for ticket in line.tickets]
        running = sum(stage in rules.RUNNING for stage in stages)
        return Stage.WAITING not in stages and running + self._new <= self._limits.deploys

    def has_turn(self, deploy_id: str) -> bool:
        """Whether it is the deploy's turn to run."""
        return self._places[deploy_id].ticket.stage is not Stage.WAITING

    async def turn(self, _: object, record: DeployRecord) -> DeployRecord:
        """A step of the runner: return when it is the deploy's turn."""
        place = self._places[record.deploy_id]
        await _until(place, lambda stage: stage is not Stage.WAITING)
        return record

    async def build_turn(self, record: DeployRecord, clock: Clock) -> bool:
        """Return when the deploy may build; whether it had to wait, in which time the clock stood still."""
        place = self._places[record.deploy_id]
        place.waited, began = False, time.monotonic()
        done = asyncio.get_running_loop().create_future()
        self._writer.write(rules.wants_build(record.deploy_id, place.record.owner.instance), done)
        with clock.stopped():
            await done  # what the line showed before may be of an earlier build
            await _until(place, lambda stage: stage is Stage.BUILDING)
        self._waited("build", time.monotonic() - began)
        return place.waited

    def built(self, deploy_id: str) -> None:
        """The deploy has no build any more: its place among the builds is the next one's."""
        self._writer.write_later(rules.built(deploy_id, self._places[deploy_id].record.owner.instance))

    def leave(self, deploy_id: str) -> None:
        """The deploy is over, or needs no place of its own: it is the next one's."""
        self._places.pop(deploy_id, None)
        self._writer.write_later(rules.left((deploy_id,)))

    def forget(self, deploy_id: str) -> None:
        """The deploy does not run here any more, but may elsewhere: its place stays."""
        self._places.pop(deploy_id, None)

    # ----------------------------------------------------------------------------- parts

    @property
    def _new(self) -> int:
        """How many places of this process the line does not show yet."""
        return sum(not place.written for place in self._places.values())

    def _see(self, line: LineRecord) -> None:
        tickets = {ticket.deploy_id: ticket for ticket in line.tickets}
        for deploy_id, place in self._places.items():
            if (ticket := tickets.get(deploy_id)) is not None:
                if ticket.stage is not place.ticket.stage:
                    place.changed.set()
                    if place.ticket.stage is Stage.WAITING:
                        self._waited("deploy", time.monotonic() - place.since)
                place.ticket, place.written = ticket, True
                place.waited |= ticket.stage is Stage.BUILD_WAITING
            elif place.written:  # somebody removed it, or the whole record
                place.written = False
                self._writer.write(rules.entered(place.ticket))
        if any(place.ticket.stage in rules.QUEUED for place in self._places.values()):
            self._announce_soon()
            if rules.grant(line, self._limits) is not line:  # whoever freed a place has other limits
                self._writer.write(lambda same: same)

    def _fail(self, error: PreviewError) -> None:
        for place in self._places.values():
            place.failed = error
            place.changed.set()

    def _announce_soon(self) -> None:
        if self._announcing is None:
            loop = asyncio.get_running_loop()
            self._announcing = loop.call_at(max(loop.time(), self._announced_at + POSITION_SECONDS), self._announce)

    def _announce(self) -> None:
        """Tell everybody of this process who waits its position, where that changed."""
        self._announcing, self._announced_at = None, asyncio.get_running_loop().time()
        positions = rules.positions(self._writer.line) if self._writer.line is not None else {}
        for deploy_id, place in self._places.items():
            number, of = positions.get(deploy_id, (0, 0))
            told = (place.ticket.stage, number)
            if number and told != place.told:
                place.told = told
                waits_for = "build" if place.ticket.stage is Stage.BUILD_WAITING else "deploy"
                self._emit(place.record, EventType.STATE, {"waits_for": waits_for, "position": number, "of": of})


async def _until(place: _Place, reached: Callable[[Stage], bool]) -> None:
    while not reached(place.ticket.stage):
        if place.failed is not None:
            raise place.failed
        place.changed.clear()
        await place.changed.wait()
