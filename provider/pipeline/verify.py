"""verify: the candidate is asked directly, then gets the traffic, then the public URL is asked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque

import httpx

from provider import render
from provider.diagnose import checks as diagnosed
from provider.diagnose.table import Finding
from provider.errors import Permanent
from provider.models import LOG_TAIL_LINES, AcceptanceCheck, Check, DeployRecord, Revision
from provider.pipeline import checks
from provider.pipeline.checks import Target
from provider.pipeline.context import Context
from provider.spec import Runtime

ANSWERS_KEPT = 20
SHORTEST_PAUSE, PAUSE_SHARE = 0.005, 0.1
"""Seconds after a failed round, and their part of the time since the first, up to VERIFY_INTERVAL: an ingress learns of
a new route within some milliseconds, an app that is not well takes longer; what is awaited is seen a tenth too late."""


async def verify(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends when every check passed at the public URL; one that fails before never gets there."""
    revision, slug = record.revision, str(record.slug)
    assert revision is not None, "the runner goes on to verify only after deploy"
    path = render.public_path(ctx.spec_of(record))
    wanted = checks.plan(path, record.request.acceptance)
    try:
        passed = await _verified(ctx, record, revision, wanted)
    except Permanent as error:
        error.log_tail = await ctx.platform.app_log(slug, revision, LOG_TAIL_LINES)
        raise
    return record.model_copy(update={"checks": passed})


async def _verified(
    ctx: Context, record: DeployRecord, revision: Revision, wanted: tuple[AcceptanceCheck, ...]
) -> tuple[Check, ...]:
    slug = str(record.slug)
    url = ctx.url(slug)
    candidate = await ctx.platform.candidate(slug, revision)
    if candidate is not None:
        await _until_passed(ctx, record, checks.candidate_target(url, candidate), wanted, public=False)
    await ctx.platform.expose(slug, revision, ctx.log_sink(record))
    address = await ctx.platform.public_address()
    target = checks.public_target(url, address, revision.commit_sha)
    return await _until_passed(ctx, record, target, wanted, public=True)


async def _until_passed(
    ctx: Context, record: DeployRecord, target: Target, wanted: tuple[AcceptanceCheck, ...], *, public: bool
) -> tuple[Check, ...]:
    """All checks succeed often enough in a row (of the candidate once), or the error that says which did not.

    A round ends at its first failed check. After a failed round there is a pause, a good one is followed by the
    next at once.
    """
    settings = ctx.settings
    successes = settings.verify_successes if public else 1
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline = began + settings.verify_timeout / 2
    in_a_row, log = 0, Attempts()
    async with checks.client(target) as http:
        while True:
            results = await _round(http, target, wanted, log)
            failed = next((result for result in results if not result.ok), None)
            in_a_row = in_a_row + 1 if failed is None else 0
            if failed is None and in_a_row >= successes:
                return tuple(_with_history(ctx, result, log) for result in results)
            if failed is None:
                continue
            pause = min(max(SHORTEST_PAUSE, PAUSE_SHARE * (loop.time() - began)), settings.verify_interval)
            if loop.time() + pause > deadline:
                raise _cause(ctx, record, target, failed, len(results) - 1, log, public=public).error()
            await asyncio.sleep(pause)


class Attempts:
    """What each attempt of each check got, in order; the last ones are kept."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self._answers: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=ANSWERS_KEPT))

    def add(self, result: Check, seconds: float) -> None:
        """Keep one attempt's answer."""
        self.count[result.name] += 1
        got = result.got if not result.ok else f"status {result.status}"
        self._answers[result.name].append(f"{got} ({1000 * seconds:.0f} ms)")

    def answers(self, name: str) -> tuple[str, ...]:
        """The last answers to that check."""
        return tuple(self._answers[name])


async def _round(
    http: httpx.AsyncClient, target: Target, wanted: tuple[AcceptanceCheck, ...], log: Attempts
) -> list[Check]:
    results: list[Check] = []
    for check in wanted:
        began = time.monotonic()
        results.append(await checks.ask(http, target, check))
        log.add(results[-1], time.monotonic() - began)
        if not results[-1].ok:
            break
    return results


def _with_history(ctx: Context, result: Check, log: Attempts) -> Check:
    return result.model_copy(
        update={
            "attempts": log.count[result.name],
            "answers": log.answers(result.name),
            "interval_seconds": ctx.settings.verify_interval,
            "deadline_seconds": ctx.settings.verify_timeout / 2,
        }
    )


def _cause(
    ctx: Context,
    record: DeployRecord,
    target: Target,
    failed: Check,
    position: int,
    log: Attempts,
    *,
    public: bool,
) -> Finding:
    runtime = ctx.spec_of(record).body.runtime
    return diagnosed.cause(
        diagnosed.Check(
            name=failed.name,
            url=failed.url,
            expected=failed.expected,
            got=failed.got,
            answered=failed.status is not None,
            public=public,
            field=_field(runtime, position),
            connect=target.connect or "",
            protocol=runtime.protocol,
            answers=log.answers(failed.name),
            attempts=log.count[failed.name],
        )
    )


def _field(runtime: Runtime, position: int) -> str:
    """The field that asked for the check at that position: the spec's path, or one of the request's."""
    if position:
        return f"acceptance[{position - 1}] of the request"
    explicit = "path" in runtime.healthcheck.model_fields_set and "path" not in runtime.model_fields_set
    return f"{'spec.runtime.healthcheck.path' if explicit else 'spec.runtime.path'} in .x1agent/preview.yaml"
