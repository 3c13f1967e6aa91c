"""One step of a deploy: tried until its deadline, ended by an interruption, its exceptions made errors.

A step runs in a task of its own, so that an interruption ends the step and not the deploy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from provider.errors import Code, PreviewError, Temporary
from provider.models import DeployRecord, EventType, Failure, Phase, PreviewOutline, now
from provider.pipeline.causes import bug, late
from provider.pipeline.clock import Clock
from provider.pipeline.context import Context
from provider.pipeline.outages import Outage, Outages, Part
from provider.pipeline.revision import DRY_DIGEST

log = structlog.get_logger(__name__)

PhaseStep = Callable[[Context, DeployRecord], Awaitable[DeployRecord]]

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
MOST_BUILDS = 3
"""What costs a whole build each time is not tried until the phase's deadline."""
PROBED_SLUG = "is-the-registry-there"
DEADLINE_SLACK = 5.0
"""Seconds that a phase gets beyond its own deadline, so that its own error, which knows more, comes first."""


@dataclass(slots=True)
class Running:
    """A deploy in this process.

    `stop` is why it has to end; `seen` the preview's record as the watch last showed it; `turn` the preview's lock
    while it is held; `writing` the write of its record that is under way; `news` set when somebody may have decided
    on its approval; `decided` when its outcome is fixed;
    `abandoned` whether it is another process's now, so that nothing of it may be changed here.
    """

    record: DeployRecord
    task: asyncio.Task[None] | None = None
    step: asyncio.Task[Any] | None = None
    stop: PreviewError | None = None
    seen: PreviewOutline | None = None
    turn: asyncio.Lock | None = None
    writing: asyncio.Task[None] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: bool = False

    def interrupt(self, cause: PreviewError) -> None:
        """End the present step, and let no further one begin; the first cause counts."""
        if self.stop is None:
            self.stop = cause
            if self.step is not None:
                self.step.cancel()

    async def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do `work` as the present step."""
        self.step = asyncio.create_task(work)
        try:
            return await self.step
        finally:
            self.step = None


class Steps:
    """Tries steps."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.outages = Outages({Part.REGISTRY: lambda: ctx.platform.has_image(PROBED_SLUG, DRY_DIGEST)})

    async def with_retries(self, running: Running, phase: Phase, step: PhaseStep) -> DeployRecord:
        """The record after `step`, which is tried again while its errors are temporary and its deadline allows."""
        pause, builds = FIRST_PAUSE, 0
        clock = self.clock(running.record, phase)
        last: Temporary | None = None
        while True:
            try:
                return await self._guarded(running, phase, step, clock, last)
            except Temporary as error:
                last, builds = error, builds + _costs_a_build(error)
            wait = last.delay if last.delay is not None else pause
            if builds >= MOST_BUILDS:
                raise last
            if time.monotonic() + wait >= clock.deadline:
                raise late(running.record, phase, last, wait) from last
            self._ctx.emit(running.record, EventType.WARNING, {"retrying": str(last), "in_seconds": wait})
            log.info("phase.retry", phase=phase, wait=wait, **self._ctx.logbook.error(running.record, last))
            await self.attempt(running, phase, _pause(wait), clock, last)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _guarded(
        self, running: Running, phase: Phase, step: PhaseStep, clock: Clock, last: Temporary | None
    ) -> DeployRecord:
        """One try, when nothing that it needs is known to be away."""
        outage = self.outages.away(running.record, phase)
        if outage is not None:
            self._ctx.emit(running.record, EventType.WARNING, _waiting(outage))
            await self.attempt(running, phase, self._back(phase), clock, last or outage.last)
            if phase is Phase.RESOLVE:  # nothing but the host and its credentials is asked there: what is late is they
                last = last or outage.last
        try:
            record = await self.attempt(running, phase, step, clock, last)
        except PreviewError as error:
            self.outages.failed(running.record, phase, error)
            raise
        self.outages.worked(record, phase)
        return record

    def _back(self, phase: Phase) -> PhaseStep:
        async def back(ctx: Context, record: DeployRecord) -> DeployRecord:
            await self.outages.wait(record, phase, ctx.clock)
            return record

        return back

    async def attempt(
        self, running: Running, phase: Phase, step: PhaseStep, clock: Clock, last: Temporary | None = None
    ) -> DeployRecord:
        """One try. Raises nothing but PreviewError and cancellation.

        Args:
            running: the deploy.
            phase: what it is doing.
            step: what is tried.
            clock: when the try ends.
            last: why the try before failed: the cause, too, when time is over in the middle of this one.
        """
        if running.stop is not None:
            raise running.stop
        try:
            async with clock.running():
                ctx = replace(self._ctx, clock=clock)
                record: DeployRecord = await running.do(_begun(step, ctx, running.record))
                return record
        except TimeoutError:
            raise late(running.record, phase, last) from last
        except asyncio.CancelledError:
            self._end(running)
            raise
        except PreviewError:
            raise
        except Exception as error:
            raise bug(error) from error

    async def stand_in_line(self, running: Running, turn: Callable[[str], bool]) -> None:
        """Wait until `turn` says that the deploy may go on; only its budget, or an interruption, ends that early."""
        record, line = running.record, self._ctx.line
        if record.joins is not None or record.failure is not None:
            return
        line.enter(record)
        if turn(record.deploy_id):
            return
        try:
            await self.attempt(running, record.phase, line.turn, self.clock(record))
        except PreviewError as error:
            running.record = record.model_copy(update={"failure": Failure.of(error, record.phase)})

    def forget(self, deploy_id: str) -> None:
        """The deploy does not run here any more. Its place in the line stays, if it did not leave it: see `Line`."""
        self._ctx.line.forget(deploy_id)
        self.outages.release(deploy_id)

    def _end(self, running: Running) -> None:
        """Turn a cancellation into the interruption's cause, if that is what it is."""
        if running.stop is not None and not running.abandoned:
            raise running.stop from None

    def clock(self, record: DeployRecord, phase: Phase | None = None, slack: float = 0.0) -> Clock:
        """When a phase (None: the deploy, and `slack` seconds more) has to end."""
        budget = time.monotonic() + max(0.0, (record.deadline - now()).total_seconds()) + slack
        if phase is None:
            return Clock(budget, budget)
        own: float = getattr(self._ctx.settings, f"{phase}_timeout")
        return Clock(time.monotonic() + own + min(DEADLINE_SLACK, own), budget)


def _costs_a_build(error: Temporary) -> bool:
    return error.code is Code.KANIKO_CREATE_FAILED or error.reason == "PushFailed"


def _waiting(outage: Outage) -> dict[str, object]:
    seconds = round(max(0.0, outage.until - time.monotonic()), 1)
    message = f"The {outage.part} fails, so this waits: {outage.last}"
    return {"message": message, "waiting_for": outage.part, "in_seconds": seconds}


async def _begun(step: PhaseStep, ctx: Context, record: DeployRecord) -> DeployRecord:
    # Called in here: what is ended before it begins leaves no coroutine that nobody awaits.
    return await step(ctx, record)


def _pause(seconds: float) -> PhaseStep:
    async def pause(_: Context, record: DeployRecord) -> DeployRecord:
        await asyncio.sleep(seconds)
        return record

    return pause
