"""publish: the preview's record is final, then everybody who asked is told.

This is the step that always runs, whatever happened before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from provider.errors import Permanent
from provider.models import DeployRecord, EventType, Failure, Phase, PreviewRecord, Report, TraceContext, Waiter, now
from provider.pipeline import report
from provider.pipeline.context import Context
from provider.pipeline.images import remember
from provider.store import reducers


async def settle(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Write the preview's final record; returns the deploy with its report.

    A deploy that succeeded, but is not the newest any more by now, has failed after all.
    """
    preview = await ctx.preview_of(record) if record.failure is not None else None
    if record.failure is None or preview is not None:
        try:
            preview = await remember(ctx, record, _reducer(record))
        except Permanent as late:
            if record.failure is not None:
                raise
            return record.model_copy(update={"failure": Failure.of(late, Phase.PUBLISH)})
    return record.model_copy(update={"report": _report(ctx, record, preview)})


def _reducer(record: DeployRecord) -> Callable[[PreviewRecord | None], PreviewRecord]:
    if record.failure is not None:
        return reducers.failed(record, record.failure, now())
    assert record.revision is not None, "a deploy without a failure has a revision"
    return reducers.succeeded(record, record.revision, at=now())


def _report(ctx: Context, record: DeployRecord, preview: PreviewRecord | None) -> Report:
    if record.failure is None:
        assert record.revision is not None, "a deploy without a failure has a revision"
        return report.success(record, record.revision, ctx.url(str(record.slug)))
    return report.failure(record, record.failure, preview)


async def tell(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Events, every asker, the session; returns the finished record."""
    final = record.report
    assert final is not None, "settle comes first"
    ctx.emit(record, EventType.STATE, {"ok": final.ok, "code": final.code, "url": final.url})
    repeated = record.answer_id != record.deploy_id
    if record.request.notify and record.request.session_id and not repeated:
        _tell_session(ctx, record, final)
    # Who asked before it waited for an approval was told that, or may have been: one inbox gets one answer.
    body = (record.approval.answer if record.approval is not None else final).wire()
    taken = await asyncio.gather(*(_answer(ctx, body, waiter, record.trace) for waiter in record.waiters))
    waiters = tuple(
        waiter.model_copy(update={"answered": waiter.answered or done})
        for waiter, done in zip(record.waiters, taken, strict=True)
    )
    return _slim(record.model_copy(update={"waiters": waiters, "finished_at": now()}))


def _slim(record: DeployRecord) -> DeployRecord:
    """What is over is kept for two days to be asked for: its answer, not what it was made from."""
    revision = record.revision.model_copy(update={"manifests": ()}) if record.revision is not None else None
    return record.model_copy(update={"spec_text": None, "revision": revision, "checks": ()})


async def _answer(ctx: Context, body: dict[str, Any], waiter: Waiter, trace: TraceContext | None) -> bool:
    """Whether nothing is left to do for this waiter: it took the answer, or its time is over."""
    if not waiter.answered:
        await ctx.reporter.deliver(waiter.reply, body, waiter.deadline, trace)
    return True


def _tell_session(ctx: Context, record: DeployRecord, final: Report) -> None:
    request = record.request
    text = report.session_text(final, request.repo_full_name, request.branch)
    event_id = f"{record.deploy_id}-{'ok' if final.ok else 'failed'}"
    ctx.reporter.tell_session(str(request.session_id), text, event_id, record.trace)
