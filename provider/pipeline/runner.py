"""The runner: takes a deploy through its phases, and (by `ending`) is the only one that writes its record.

It decides on retries, deadlines and interruptions; phases only do their step and return a record. A
process that starts again hands it the unfinished records, and it goes on from each one's phase.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from provider.errors import PreviewError
from provider.models import DeployRecord, EventType, Failure, Phase, PreviewOutline
from provider.pipeline import report
from provider.pipeline.admit import admit
from provider.pipeline.build import build
from provider.pipeline.causes import bug, overtaken
from provider.pipeline.context import Context
from provider.pipeline.deploy import deploy
from provider.pipeline.ending import Ending, entered, repeat, tolerate, with_time
from provider.pipeline.holding import Holding
from provider.pipeline.outages import Part
from provider.pipeline.publish import tell
from provider.pipeline.resolve import resolve
from provider.pipeline.rollout import rollout
from provider.pipeline.steps import DEADLINE_SLACK, PhaseStep, Running, Steps
from provider.pipeline.verify import verify
from provider.source import FULL_SHA
from provider.store import Lost, reducers

T = TypeVar("T")
log = structlog.get_logger(__name__)

PREPARE: dict[Phase, PhaseStep] = {Phase.RESOLVE: resolve, Phase.ADMIT: admit, Phase.BUILD: build}
CHANGE: dict[Phase, PhaseStep] = {Phase.DEPLOY: deploy, Phase.ROLLOUT: rollout, Phase.VERIFY: verify}
ORDER = (*PREPARE, *CHANGE, Phase.PUBLISH)


class Runner:
    """Runs deploys, each in a task of its own; what changes one preview runs one at a time."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._running: dict[str, Running] = {}
        self._slugs = WeakValueDictionary[str, asyncio.Lock]()
        self._steps = Steps(ctx)
        self._ending = Ending(ctx, self.lock)
        self._holding = Holding(ctx, self._steps, self._ending)
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
        running.interrupt(cause)
        return True

    async def decided(self, deploy_id: str) -> None:
        """Return when a deploy's outcome is fixed and nothing of it changes the preview any more."""
        running = self._running.get(deploy_id)
        if running is not None:
            await running.decided.wait()

    def on_slug(self, slug: str) -> list[str]:
        """The deploys of a preview that are running here and not decided."""
        return [key for key, one in self._running.items() if one.record.slug == slug and not one.decided.is_set()]

    def is_running(self, deploy_id: str) -> bool:
        """Whether this process runs the deploy."""
        return deploy_id in self._running

    @property
    def under_way(self) -> int:
        """How many deploys run here."""
        return len(self._running)

    @property
    def held_up(self) -> Mapping[Part, int]:
        """How many of them wait for a part of the platform to come back."""
        return self._steps.outages.waiting

    def accepted_before(self, deploy_id: str, order: int) -> bool:
        """Whether a running deploy is older than that order."""
        running = self._running.get(deploy_id)
        return running is not None and (running.record.order or 0) < order

    def on_preview(self, preview: PreviewOutline) -> None:
        """A preview record changed: deploys that are not its newest any more end."""
        for deploy_id in self.on_slug(preview.slug):
            self._running[deploy_id].seen = preview
            self._overtake(self._running[deploy_id])

    def on_verdict(self, deploy_id: str) -> None:
        """Something may have been decided of a deploy that waits for its approval."""
        if (running := self._running.get(deploy_id)) is not None:
            running.news.set()

    def _overtake(self, running: Running) -> None:
        """End a deploy that its preview has no room for any more."""
        if cause := overtaken(running.record, running.seen):
            self.interrupt(running.record.deploy_id, cause)

    def lock(self, slug: str) -> asyncio.Lock:
        """Whoever changes what a preview runs holds this."""
        return self._slugs.setdefault(slug, asyncio.Lock())

    async def put_right(self, slug: str) -> None:
        """Do for a preview what an earlier process has left undone."""
        await self._ending.put_right(slug)

    async def abandon(self) -> None:
        """Stop everything; every record stays as it is, for the process that goes on with it."""
        running = list(self._running.values())
        for one in running:
            one.abandoned = True
            if one.task is not None:
                one.task.cancel()
        await asyncio.gather(*(one.task for one in running if one.task is not None), return_exceptions=True)

    async def close(self, timeout: float) -> None:
        """Abandon everything, and begin nothing any more; what does not end within `timeout` seconds ends with us."""
        self._closing = True
        try:
            async with asyncio.timeout(timeout):
                await self.abandon()
        except TimeoutError:
            log.warning("runner.not_closed", deploys=len(self._running))

    # ------------------------------------------------------------------ one deploy

    async def _run(self, running: Running) -> None:
        structlog.contextvars.clear_contextvars()  # those of the request that it came with
        structlog.contextvars.bind_contextvars(**_shown_as(running.record))
        try:
            if running.record.report is None:
                await self._decide_whatever_happens(running)
            running.decided.set()
            self._ctx.line.leave(running.record.deploy_id)
            told, _ = await asyncio.gather(tell(self._ctx, running.record), self._ending.clean_up(running.record))
            await self._ending.save(running, told)
        except Lost:
            log.warning("deploy.lost")
        except PreviewError as error:
            log.error("deploy.not_finished", error=str(error), evidence=error.evidence)
        finally:
            running.decided.set()
            self._running.pop(running.record.deploy_id, None)
            self._steps.forget(running.record.deploy_id)
            self._ctx.logbook.forget(running.record.deploy_id)
            if running.writing is not None:
                running.writing.cancel()
                await asyncio.gather(running.writing, return_exceptions=True)

    async def _decide_whatever_happens(self, running: Running) -> None:
        """A bug of ours must not leave the asker without an answer, or the preview under way for ever."""
        try:
            await self._decide(running)
        except Lost:
            raise
        except Exception as error:
            cause = Failure.of(bug(error), running.record.phase)
            # Without what may have made it too large to store.
            running.record = running.record.model_copy(update={"failure": cause, "checks": (), "warnings": ()})
            try:
                await self._ending.settle(running)
            except PreviewError as again:
                log.error("deploy.not_settled", error=str(again), evidence=again.evidence)
                final = report.failure(running.record, cause, None)
                running.record = running.record.model_copy(update={"report": final})

    async def _decide(self, running: Running) -> None:
        """Everything up to the point where the outcome is fixed and stored."""
        await self._ctx.logbook.recall(running.record, self._ctx.platform)
        await self._prepare(running)
        while running.record.joins is not None and running.record.failure is None:
            if await self._follow(running):
                return
            await self._prepare(running)
        if running.record.failure is not None and running.record.phase in PREPARE:
            if running.record.phase is Phase.BUILD:  # here, so that whoever goes on from the record does it, too
                await self._stop_build(running)
            await self._ending.settle(running)  # nothing runs of it yet, so it need not wait for its turn
            return
        try:
            await self._take_turn(running)  # in here: an abandonment may come just when the lock is ours
            await self._phases(running, CHANGE)
            await self._ending.settle(running)
        finally:
            if running.turn is not None:
                running.turn.release()

    async def _prepare(self, running: Running) -> None:
        """The phases that change nothing. Where the line has room, the first begins before the turn is confirmed."""
        line = self._ctx.line
        for turn, phases in (
            (line.may_begin, (Phase.RESOLVE,)),
            (line.has_turn, (Phase.ADMIT,)),
            (line.has_turn, (Phase.ADMIT, Phase.BUILD)),  # after an approval it is admitted now
        ):
            await self._holding.over(running)
            await self._steps.stand_in_line(running, turn)
            await self._phases(running, {phase: PREPARE[phase] for phase in phases})
        if running.record.joins is not None:
            line.leave(running.record.deploy_id)

    async def _take_turn(self, running: Running) -> None:
        """Wait until nobody else changes the preview; an interruption or the budget's end ends the wait."""
        lock = self.lock(str(running.record.slug))

        async def turn(_: Context, record: DeployRecord) -> DeployRecord:
            await lock.acquire()
            running.turn = lock
            return record

        if running.record.failure is not None:
            await turn(self._ctx, running.record)  # what failed is put right, however late
            return
        try:
            await self._steps.attempt(running, Phase.DEPLOY, turn, self._steps.clock(running.record))
        except PreviewError as error:
            cause = Failure.of(error, running.record.phase)
            running.record = record = running.record.model_copy(update={"failure": cause})
            preview = await repeat(lambda: self._ctx.preview_of(record))
            if preview is not None and preview.current is not None and preview.current.deploy_id == record.deploy_id:
                await turn(self._ctx, record)  # an earlier owner has begun to change it: that is put right
            else:
                running.record = record.model_copy(update={"phase": Phase.BUILD})

    async def _phases(self, running: Running, steps: dict[Phase, PhaseStep]) -> None:
        for phase, step in steps.items():
            record = running.record
            over = record.failure is not None or record.joins is not None
            if not over and ORDER.index(record.phase) <= ORDER.index(phase):
                await self._phase(running, phase, step)

    async def _phase(self, running: Running, phase: Phase, step: PhaseStep) -> None:
        """One phase: events, time, retries; its end is one write of the record."""
        began = time.monotonic()
        running.record = entered(running.record, phase)
        self._ctx.emit(running.record, EventType.PHASE_STARTED, {})
        update: dict[str, object] = {}
        try:
            record = await self._steps.with_retries(running, phase, step)
            update["phase"] = phase if record.held else ORDER[ORDER.index(phase) + 1]
        except PreviewError as error:
            log.info("phase.failed", phase=phase, **self._ctx.logbook.error(running.record, error))
            record = running.record
            update["failure"] = Failure.of(error, phase)
        update["timings"] = with_time(record, time.monotonic() - began)
        failure = update.get("failure")
        data: dict[str, object] = {"ok": failure is None, "seconds": round(time.monotonic() - began, 4)}
        if isinstance(failure, Failure):
            data |= {"code": failure.code, "reason": failure.reason, "message": failure.message}
        structlog.contextvars.bind_contextvars(**_shown_as(record))
        self._ctx.emit(record, EventType.PHASE_FINISHED, data)
        running.record = record.model_copy(update=update)
        if phase is not Phase.VERIFY:  # how it ends is written at once
            await self._ending.save_beside(running, running.record)
        if phase is Phase.RESOLVE and len(record.request.commit_sha or "") < FULL_SHA:
            # A branch becomes a commit once, so nobody may begin with it before it is stored.
            await self._ending.written(running)
        self._overtake(running)

    async def _stop_build(self, running: Running) -> None:
        """A build that nobody waits for any more is stopped; by its owner alone, who just wrote the record."""
        await self._ending.written(running)
        record = running.record
        if record.slug and not await self._is_shared(running):
            await tolerate(self._ctx.platform.stop_build(record.slug, record.build_inputs))

    async def _is_shared(self, running: Running) -> bool:
        """Whether another deploy waits for the same build, here or elsewhere."""
        mine = running.record
        here = (one.record for one in self._running.values() if one is not running and not one.decided.is_set())
        if any((other.slug, other.build_inputs) == (mine.slug, mine.build_inputs) for other in here):
            return True
        preview = await repeat(lambda: self._ctx.preview_of(mine))
        if preview is None or preview.newest.deploy_id in ("", mine.deploy_id):
            return False
        newest = await repeat(lambda: self._ctx.store.get_deploy(preview.newest.deploy_id))
        return newest is not None and newest.report is None and newest.build_inputs == mine.build_inputs

    async def _follow(self, running: Running) -> bool:
        """Answer from the outcome of the deploy that this one joined; False: go on alone.

        Somebody else's cancellation, claim or smaller budget is no answer to this asker, unless this is a repetition
        of that very request.
        """
        record = running.record

        async def joined(ctx: Context, current: DeployRecord) -> DeployRecord:
            return await ctx.store.wait_deploy(str(current.joins), lambda one: one.report is not None or one.held)

        self._ctx.emit(record, EventType.STATE, {"joins": record.joins})
        try:
            leader = await self._steps.attempt(
                running, Phase.PUBLISH, joined, self._steps.clock(record, slack=DEADLINE_SLACK)
            )
        except PreviewError as error:
            running.record = record.model_copy(update={"failure": Failure.of(error, None), "phase": Phase.ADMIT})
            await self._ending.settle(running)
            return True
        if leader.report is None:  # it waits for an approval, and so does whoever asks again: that is the answer
            assert leader.approval is not None, "the predicate asked for it"
            await self._ending.save(running, record.model_copy(update={"report": leader.approval.answer}))
            return True
        alone = record.answer_id == record.deploy_id
        if alone and leader.failure is not None and leader.failure.code in reducers.NOT_SHARED:
            running.record = record.model_copy(update={"joins": None, "phase": Phase.ADMIT})
            return False
        warnings = (
            tuple(dict.fromkeys((*record.warnings, *leader.report.warnings))) if alone else leader.report.warnings
        )
        answer = leader.report.model_copy(update={"deploy_id": record.answer_id, "warnings": warnings})
        update = {"report": answer, "failure": leader.failure, "slug": leader.slug}
        await self._ending.save(running, record.model_copy(update=update))
        return True


def _shown_as(record: DeployRecord) -> dict[str, str]:
    """What each line of the log says of the deploy, as far as it is known."""
    trace_id = record.trace.trace_id if record.trace is not None else None
    known = {"deploy_id": record.deploy_id, "slug": record.slug, "session": record.request.session_id}
    return {name: value for name, value in (known | {"trace_id": trace_id}).items() if value}
