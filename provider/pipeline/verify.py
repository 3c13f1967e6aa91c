"""verify: the candidate is asked directly, then gets the traffic, then the public URL is asked."""

from __future__ import annotations

import asyncio

from provider import render
from provider.errors import Code, Permanent, Whose
from provider.models import AcceptanceCheck, Check, DeployRecord
from provider.pipeline import checks
from provider.pipeline.checks import Target
from provider.pipeline.context import Context


async def verify(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends when every check passed at the public URL; one that fails before never gets there."""
    revision, slug = record.revision, str(record.slug)
    assert revision is not None, "the runner goes on to verify only after deploy"
    url = ctx.url(slug)
    path = render.public_path(ctx.spec_of(record))
    wanted = checks.plan(path, record.request.acceptance)
    candidate = await ctx.platform.candidate(slug, revision)
    if candidate is not None:
        await _until_passed(ctx, checks.candidate_target(url, candidate), wanted, "candidate")
    await ctx.platform.expose(slug, revision)
    address = await ctx.platform.public_address()
    passed = await _until_passed(ctx, checks.public_target(url, address, revision.commit_sha), wanted, "public URL")
    return record.model_copy(update={"checks": passed})


async def _until_passed(
    ctx: Context, target: Target, wanted: tuple[AcceptanceCheck, ...], where: str
) -> tuple[Check, ...]:
    """All checks succeed some times in a row, or the error that says which did not.

    A failed attempt waits for the interval, a successful one is followed by the next at once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ctx.settings.verify_timeout / 2
    in_a_row, attempts, history = 0, 0, list[str]()
    async with checks.client(target) as http:
        while True:
            attempts += 1
            results = tuple([await checks.ask(http, target, check) for check in wanted])
            failed = next((result for result in results if not result.ok), None)
            if failed is None:
                in_a_row += 1
                if in_a_row >= ctx.settings.verify_successes:
                    return tuple(result.model_copy(update={"attempts": attempts}) for result in results)
                continue
            in_a_row = 0
            history.append(f"{failed.name}: expected {failed.expected}, got {failed.got}")
            if loop.time() + ctx.settings.verify_interval > deadline:
                raise _failure(failed, where, attempts, history)
            await asyncio.sleep(ctx.settings.verify_interval)


def _failure(failed: Check, where: str, attempts: int, history: list[str]) -> Permanent:
    no_answer = failed.status is None
    gateway = failed.status in {502, 503, 504} and where != "candidate"
    reason = "NoAnswer" if no_answer else "GatewayError" if gateway else "CheckFailed"
    return Permanent(
        Code.VERIFY_FAILED,
        f"{failed.name} at the {where} expected {failed.expected}, but got {failed.got}.",
        reason=reason,
        hint=f"Make {failed.name} answer as expected, or change the check.",
        whose=Whose.PLATFORM if no_answer and where != "candidate" else Whose.USER,
        evidence=(failed.url, f"{attempts} attempts", *dict.fromkeys(history[-5:])),
    )
