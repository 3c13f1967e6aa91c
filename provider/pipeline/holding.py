"""Deploys that wait for somebody's approval: they hold no place in the line, and their budget stands still.

Whoever asked is told `awaiting_approval` at once, since an approval may take longer than anybody listens; so one
inbox never gets two answers. That is no outcome: the outcome goes to the events, to the session, and to whoever
repeats the request. All of it stands in the record, so another provider can go on waiting.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from provider.errors import Code, Permanent
from provider.models import Approval, DeployRecord, EventType, Failure, Phase, PreviewRecord, Verdict, now
from provider.pipeline import policing, report
from provider.pipeline.clock import Clock
from provider.pipeline.context import Context
from provider.pipeline.ending import Ending, repeat
from provider.pipeline.steps import PhaseStep, Running, Steps
from provider.policy import Decision

LOOK_SECONDS = 15.0
"""How often a verdict is looked for, should nobody tell of it."""
PROVIDER = "provider"


def begun(ctx: Context, record: DeployRecord, decision: Decision, preview: PreviewRecord) -> DeployRecord:
    """The record of a deploy that waits from now on."""
    at = now()
    expires_at = at + timedelta(seconds=ctx.settings.approval_seconds)
    error = _awaiting(record, decision, expires_at.isoformat(timespec="seconds"))
    answer = report.failure(ctx.logbook.masked(record), Failure.of(error, Phase.ADMIT), preview)
    approval = Approval(
        rule=decision.rule.name,
        breaches=tuple(map(policing.as_data, decision.breaches)),
        expires_at=expires_at,
        budget_seconds=max(0.0, (record.deadline - at).total_seconds()),
        answer=answer,
    )
    return record.model_copy(update={"approval": approval})


class Holding:
    """Waits for verdicts.

    Args:
        ctx: the parts that it uses.
        steps, ending: the runner's.
    """

    def __init__(self, ctx: Context, steps: Steps, ending: Ending) -> None:
        self._ctx = ctx
        self._steps = steps
        self._ending = ending

    async def over(self, running: Running) -> None:
        """Return when the deploy does not wait (any more): it may go on, or has failed."""
        record = running.record
        if not record.held or record.approval is None:
            return
        self._ctx.line.leave(record.deploy_id)
        await self._ending.written(running)
        data = {"state": "awaiting_approval", **(record.approval.answer.details or {})}
        self._ctx.emit(record, EventType.STATE, data | {"message": record.approval.answer.message})
        telling = asyncio.create_task(self._tell(running), name=f"tell of {record.deploy_id}'s waiting")
        try:
            decided = await self._steps.attempt(running, Phase.ADMIT, self._verdict(running), Clock.endless())
            failure = _refused(decided)
        except Permanent as error:
            decided, failure = running.record, Failure.of(error, Phase.ADMIT)
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
        # Who was told meanwhile stands in the present record.
        verdict = decided.approval.verdict if decided.approval is not None else None
        approval = (running.record.approval or record.approval).model_copy(update={"verdict": verdict})
        update = {"approval": approval, "deadline": decided.deadline, "failure": failure}
        await self._ending.save(running, running.record.model_copy(update=update))

    def _verdict(self, running: Running) -> PhaseStep:
        async def decided(ctx: Context, record: DeployRecord) -> DeployRecord:
            approval = record.approval
            assert approval is not None, "it is held"
            approvals, deploy_id = ctx.store.approvals, record.deploy_id
            while (verdict := await repeat(lambda: approvals.get(deploy_id))) is None:
                left = (approval.expires_at - now()).total_seconds()
                if left <= 0:
                    verdict = await repeat(lambda: approvals.decide(deploy_id, _expired()))
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_SECONDS)):
                        await running.news.wait()
                running.news.clear()
            deadline = now() + timedelta(seconds=approval.budget_seconds)
            approval = approval.model_copy(update={"verdict": verdict})
            return record.model_copy(update={"approval": approval, "deadline": deadline})

        return decided

    async def _tell(self, running: Running) -> None:
        """Tell the session, then everybody who waits for an answer; what is done stands in the record."""
        record = running.record
        approval, request = record.approval, record.request
        assert approval is not None, "it is held"
        if request.notify and request.session_id and not approval.told:
            text = report.session_text(approval.answer, request.repo_full_name, request.branch)
            self._ctx.reporter.tell_session(request.session_id, text, f"{record.deploy_id}-awaiting", record.trace)
            told = approval.model_copy(update={"told": True})
            await self._ending.save(running, running.record.model_copy(update={"approval": told}))
        body = approval.answer.wire()
        waiting = [one for one in record.waiters if not one.answered]
        deliver, trace = self._ctx.reporter.deliver, record.trace
        await asyncio.gather(*(deliver(one.reply, body, one.deadline, trace) for one in waiting))
        waiters = tuple(one.model_copy(update={"answered": True}) for one in record.waiters)
        await self._ending.save(running, running.record.model_copy(update={"waiters": waiters}))


def _awaiting(record: DeployRecord, decision: Decision, until: str) -> Permanent:
    request, sha = record.request, str(record.commit_sha)
    lines = tuple(map(str, decision.breaches))
    why = f" since it is beyond its limits ({'; '.join(lines)})" if lines else ""
    return Permanent(
        Code.AWAITING_APPROVAL,
        f"The policy's rule {decision.rule.name!r} holds {request.repo_full_name}, branch {request.branch}, at "
        f"{sha[:12]}{why}: it waits for an approval until {until}.",
        reason="BeyondLimit" if lines else "ApprovalNeeded",
        hint=f"Have it approved (`preview approve {record.answer_id}`); the outcome comes as an event, to the session, "
        "and to the same request repeated with this deploy_id afterwards.",
        evidence=lines,
        details={
            "approval": {
                "deploy_id": record.answer_id,
                "commit_sha": sha,
                "expires_at": until,
                **policing.details(decision),
            }
        },
    )


def _expired() -> Verdict:
    return Verdict(decision="expired", by=PROVIDER, at=now())


def _refused(record: DeployRecord) -> Failure | None:
    """Why the deploy ends, if it was not approved."""
    verdict = record.approval.verdict if record.approval is not None else None
    if verdict is None or verdict.decision == "approved":
        return None
    if verdict.decision == "expired":
        reason, message = "ApprovalExpired", "Nobody approved the deploy in time."
        hint = "Ask for it again, and have it approved."
    else:
        reason, message = (
            "ApprovalRefused",
            f"{verdict.by} rejected the deploy{f': {verdict.note}' if verdict.note else '.'}",
        )
        hint = "Change what was objected to, and ask again."
    error = Permanent(Code.POLICY_DENIED, message, reason=reason, hint=hint)
    return Failure.of(error, Phase.ADMIT)
