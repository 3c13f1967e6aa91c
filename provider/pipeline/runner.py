"""The runner: takes a deploy through its phases, and is the only one that writes its record.

It decides on retries, deadlines and interruptions; phases only do their step and return a record. A
process that starts again hands it the unfinished records, and it goes on from each one's phase.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from provider.errors import Code, PreviewError, Temporary
from provider.models import DeployRecord, EventType, Failure, Phase, PhaseTiming, PreviewRecord, now
from provider.pipeline import report
from provider.pipeline.admit import admit
from provider.pipeline.build import build
from provider.pipeline.causes import internal_error, late, superseded_by
from provider.pipeline.context import Context
from provider.pipeline.deploy import deploy
from provider.pipeline.publish import settle, tell
from provider.pipeline.resolve import resolve
from provider.pipeline.restore import restore
from provider.pipeline.rollout import rollout
from provider.pipeline.verify import verify
from provider.store import Lost

T = TypeVar("T")
log = structlog.get_logger(__name__)

PhaseStep = Callable[[Context, DeployRecord], Awaitable[DeployRecord]]

PREPARE: dict[Phase, PhaseStep] = {Phase.RESOLVE: resolve, Phase.ADMIT: admit, Phase.BUILD: build}
CHANGE: dict[Phase, PhaseStep] = {Phase.DEPLOY: deploy, Phase.ROLLOUT: rollout, Phase.VERIFY: verify}
ORDER = (*PREPARE, *CHANGE, Phase.PUBLISH)

RETRY_PAUSE, RETRY_PAUSE_MAX = 0.2, 5.0
MOST_TRIES = {Code.KANIKO_CREATE_FAILED: 3}
"""What costs a whole build each time is not tried until the phase's deadline."""
CLEAN_UP_SECONDS = 15.0
RESTORE_SECONDS = 60.0
DEADLINE_SLACK = 5.0
"""Seconds that a phase gets beyond its own deadline, so that its own error, which knows more, comes first."""


@dataclass(slots=True)
class Running:
    """A deploy in this process."""

    record: DeployRecord
    task: asyncio.Task[None] | None = None
    step: asyncio.Task[DeployRecord] | None = None
    stop: PreviewError | None = None
    seen: PreviewRecord | None = None
    decided: asyncio.Event = field(default_factory=asyncio.Event)


class Runner:
    """Runs deploys, each in a task of its own; what changes one preview runs one at a time."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._running: dict[str, Running] = {}
        self._slugs = WeakValueDictionary[str, asyncio.Lock]()
        self._closing = False

    # ------------------------------------------------------------------ from outside

    def start(self, record: DeployRecord) -> None:
        """Run a record that was just created, or go on with an unfinished one."""
        if record.deploy_id not in self._running and not self._closing:
            running = Running(record)
            self._running[record.deploy_id] = running
            running.task = asyncio.create_task(self._run(running), name=f"deploy {record.deploy_id}")

    def interrupt(self, deploy_id: str, cause: PreviewError) -> bool:
        """End a deploy with this cause, wherever it is; False when it is not running or decided already."""
        running = self._running.get(deploy_id)
        if running is None or running.decided.is_set():
            return False
        if running.stop is None:
            running.stop = cause
            if running.step is not None:
                running.step.cancel()
        return True

    async def decided(self, deploy_id: str) -> None:
        """Return when a deploy's outcome is fixed and nothing of it changes the preview any more."""
        running = self._running.get(deploy_id)
        if running is not None:
            await running.decided.wait()

    def on_slug(self, slug: str) -> list[str]:
        """The deploys of a preview that are running here and not decided."""
        return [key for key, one in self._running.items() if one.record.slug == slug and not one.decided.is_set()]

    def accepted_before(self, deploy_id: str, order: int) -> bool:
        """Whether a running deploy is older than that order."""
        running = self._running.get(deploy_id)
        return running is not None and (running.record.order or 0) < order

    def on_preview(self, preview: PreviewRecord) -> None:
        """A preview record changed: deploys that are not its newest any more end."""
        for deploy_id in self.on_slug(preview.slug):
            self._running[deploy_id].seen = preview
            self._overtake(self._running[deploy_id])

    def _overtake(self, running: Running) -> None:
        """End a deploy that is not its preview's newest any more.

        One that is not admitted yet is left to `admit`: it may find that the newest does just what it wants.
        """
        record, preview = running.record, running.seen
        if preview is None or record.joins is not None or not record.generation:
            return
        if preview.newest.deploy_id != record.deploy_id and preview.newest.order > (record.order or 0):
            self.interrupt(record.deploy_id, superseded_by(preview))

    def lock(self, slug: str) -> asyncio.Lock:
        """Whoever changes what a preview runs holds this."""
        return self._slugs.setdefault(slug, asyncio.Lock())

    async def close(self) -> None:
        """Stop; every record stays where it is, for the process that goes on with it."""
        self._closing = True
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ one deploy

    async def _run(self, running: Running) -> None:
        structlog.contextvars.bind_contextvars(deploy_id=running.record.deploy_id)
        try:
            if running.record.report is None:
                await self._decide_whatever_happens(running)
            running.decided.set()
            await self._save(running, await tell(self._ctx, running.record))
        except Lost:
            log.warning("deploy.lost")
        finally:
            running.decided.set()
            self._running.pop(running.record.deploy_id, None)

    async def _decide_whatever_happens(self, running: Running) -> None:
        """A bug of ours must not leave the asker without an answer."""
        try:
            await self._decide(running)
        except Lost:
            raise
        except Exception as error:
            cause = Failure.of(internal_error(error), running.record.phase)
            final = report.failure(running.record, cause, None)
            await self._save(running, running.record.model_copy(update={"failure": cause, "report": final}))

    async def _decide(self, running: Running) -> None:
        """Everything up to the point where the outcome is fixed and stored."""
        await self._phases(running, PREPARE)
        if running.record.joins is not None and running.record.failure is None:
            await self._follow(running)
            return
        if running.record.failure is not None and running.record.phase in PREPARE:
            await self._settle(running)  # nothing runs of it yet, so it need not wait for its turn
            return
        async with self.lock(str(running.record.slug)):
            await self._phases(running, CHANGE)
            await self._settle(running)

    async def _phases(self, running: Running, steps: dict[Phase, PhaseStep]) -> None:
        for phase, step in steps.items():
            record = running.record
            over = record.failure is not None or record.joins is not None
            if not over and ORDER.index(record.phase) <= ORDER.index(phase):
                await self._phase(running, phase, step)

    async def _phase(self, running: Running, phase: Phase, step: PhaseStep) -> None:
        """One phase: events, time, retries; its end is one write of the record."""
        began = time.monotonic()
        running.record = _entered(running.record, phase)
        self._ctx.emit(running.record, EventType.PHASE_STARTED, {})
        update: dict[str, object] = {}
        try:
            record = await self._with_retries(running, phase, step)
            update["phase"] = ORDER[ORDER.index(phase) + 1]
        except PreviewError as error:
            log.info("phase.failed", phase=phase, error=str(error), reason=error.reason)
            record = running.record
            update["failure"] = Failure.of(error, phase)
            await self._undo(running, phase)
        update["timings"] = _with_time(record, phase, time.monotonic() - began)
        failure = update.get("failure")
        data: dict[str, object] = {"ok": failure is None, "seconds": round(time.monotonic() - began, 4)}
        if isinstance(failure, Failure):
            data |= {"code": failure.code, "reason": failure.reason, "message": failure.message}
        self._ctx.emit(record, EventType.PHASE_FINISHED, data)
        await self._save(running, record.model_copy(update=update))
        self._overtake(running)

    async def _with_retries(self, running: Running, phase: Phase, step: PhaseStep) -> DeployRecord:
        pause, tries = RETRY_PAUSE, 0
        deadline = self._deadline(running.record, phase)
        last: Temporary | None = None
        while True:
            try:
                return await self._attempt(running, phase, step, deadline, last)
            except Temporary as error:
                last, tries = error, tries + 1
                wait = error.delay if error.delay is not None else pause
                if tries >= MOST_TRIES.get(error.code, tries + 1):
                    raise
                if time.monotonic() + wait >= deadline:
                    raise late(running.record, phase, error, wait) from error
                self._ctx.emit(running.record, EventType.WARNING, {"retrying": str(error), "in_seconds": wait})
                log.info("phase.retry", phase=phase, error=str(error), evidence=error.evidence, wait=wait)
                await self._pause(running, wait)
                pause = min(pause * 2, RETRY_PAUSE_MAX)

    async def _attempt(
        self, running: Running, phase: Phase, step: PhaseStep, deadline: float, last: Temporary | None = None
    ) -> DeployRecord:
        """One try, in a task of its own, so that an interruption ends the step and not the deploy.

        `last` is why the try before failed: the cause, too, when time is over in the middle of this one.
        """
        if running.stop is not None:
            raise running.stop
        running.step = asyncio.create_task(_awaited(step(self._ctx, running.record)))
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                return await running.step
        except TimeoutError:
            raise late(running.record, phase, last) from None
        except asyncio.CancelledError:
            if running.stop is None:
                raise
            raise running.stop from None
        except PreviewError:
            raise
        except Exception as error:
            raise internal_error(error) from error
        finally:
            running.step = None

    async def _pause(self, running: Running, seconds: float) -> None:
        """Wait before a retry; an interruption ends the wait."""
        running.step = asyncio.create_task(_awaited(_sleep(seconds, running.record)))
        try:
            await running.step
        except asyncio.CancelledError:
            if running.stop is None:
                raise
        finally:
            running.step = None

    def _deadline(self, record: DeployRecord, phase: Phase) -> float:
        """When a phase has to end, on the monotonic clock."""
        own: float = getattr(self._ctx.settings, f"{phase}_timeout", RESTORE_SECONDS)
        own += min(DEADLINE_SLACK, own)
        left = (record.deadline - now()).total_seconds()
        return time.monotonic() + max(0.0, min(own, left))

    async def _undo(self, running: Running, phase: Phase) -> None:
        """A build that nobody waits for any more is stopped; the rest is what `restore` does."""
        record = running.record
        if phase is not Phase.BUILD or not record.slug:
            return
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await self._ctx.platform.stop_build(record.slug, record.build_inputs)
        except (PreviewError, TimeoutError) as error:
            log.warning("build.stop_failed", error=str(error))

    async def _settle(self, running: Running) -> None:
        """Put the last good back if this failed, then fix the outcome in both records."""
        while running.record.report is None:
            if running.record.failure is not None and running.record.phase not in PREPARE:
                await self._restore(running)
            record, keep = await self._repeat(lambda: settle(self._ctx, running.record))
            await self._save(running, record)
            if record.report is not None and record.generation:
                await self._tolerate(self._ctx.platform.retire(str(record.slug), keep, record.generation))
        await self._tolerate(self._ctx.platform.drop_staged(running.record.staged))

    async def _restore(self, running: Running) -> None:
        """Restoring must not be given up by an interruption, and not lose the first cause by its own failure."""
        began = time.monotonic()
        await self._save(running, _entered(running.record, Phase.RESTORE))
        self._ctx.emit(running.record, EventType.PHASE_STARTED, {})
        update: dict[str, object] = {}
        try:
            async with asyncio.timeout(RESTORE_SECONDS):
                await self._repeat(lambda: restore(self._ctx, running.record))
        except (PreviewError, TimeoutError) as error:
            log.error("restore.failed", error=str(error))
            warning = "the last good revision could not be put back; it is when the provider starts again"
            update["warnings"] = (*running.record.warnings, warning)
        seconds = time.monotonic() - began
        update["timings"] = _with_time(running.record, Phase.RESTORE, seconds)
        data = {"ok": "warnings" not in update, "seconds": round(seconds, 4)}
        self._ctx.emit(running.record, EventType.PHASE_FINISHED, data)
        running.record = running.record.model_copy(update=update)

    async def _follow(self, running: Running) -> None:
        """Answer from the outcome of the deploy that this one joined."""
        record = running.record
        left = (record.deadline - now()).total_seconds() + DEADLINE_SLACK

        async def joined(ctx: Context, current: DeployRecord) -> DeployRecord:
            leader = await ctx.store.wait_deploy(str(current.joins), lambda one: one.report is not None)
            assert leader.report is not None, "the predicate asked for it"
            return leader

        self._ctx.emit(record, EventType.STATE, {"joins": record.joins})
        try:
            leader = await self._attempt(running, Phase.PUBLISH, joined, time.monotonic() + left)
            answer = leader.report.model_copy(update={"deploy_id": record.answer_id}) if leader.report else None
            update = {"report": answer, "failure": leader.failure, "slug": leader.slug}
            await self._save(running, record.model_copy(update=update))
        except PreviewError as error:
            running.record = record.model_copy(update={"failure": Failure.of(error, None)})
            await self._settle(running)
        await self._tolerate(self._ctx.platform.drop_staged(record.staged))

    # ------------------------------------------------------------------ records

    async def _save(self, running: Running, record: DeployRecord) -> None:
        running.record = record
        await self._repeat(lambda: self._ctx.store.save_deploy(running.record))

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        """Do something that must happen, through outages of what it needs."""
        pause = RETRY_PAUSE
        while True:
            try:
                return await call()
            except Temporary as error:
                log.warning("repeat", error=str(error), evidence=error.evidence)
                await asyncio.sleep(error.delay if error.delay is not None else pause)
                pause = min(pause * 2, RETRY_PAUSE_MAX)

    async def _tolerate(self, call: Awaitable[None]) -> None:
        """Clean-up whose failure must not change an outcome; what it leaves is removed by the next one."""
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await call
        except (PreviewError, TimeoutError) as error:
            log.warning("clean_up.failed", error=str(error))


def _entered(record: DeployRecord, phase: Phase) -> DeployRecord:
    timing = PhaseTiming(phase=phase, started_at=now())
    return record.model_copy(update={"phase": phase, "timings": (*record.timings, timing)})


def _with_time(record: DeployRecord, phase: Phase, seconds: float) -> tuple[PhaseTiming, ...]:
    *earlier, last = record.timings
    return (*earlier, last.model_copy(update={"seconds": round(seconds, 4)}))


async def _awaited(step: Awaitable[DeployRecord]) -> DeployRecord:
    return await step


async def _sleep(seconds: float, record: DeployRecord) -> DeployRecord:
    await asyncio.sleep(seconds)
    return record
