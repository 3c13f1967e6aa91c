"""What a provider does when it dies: a first deploy, a redeploy, one that fails, a cancel, approvals, a teardown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from provider.models import PreviewState
from tests.crash.arena import APPS, HELD_SECONDS, HELD_TTL, Chain
from tests.crash.asking import BOUND, Json, Run, asks, deploys, finished, watched_over
from tests.crash.gate import Point
from tests.crash.invariants import Judge
from tests.e2e.helpers import eventually

Judged = Callable[[], Awaitable[list[str]]]
"""What is wrong now."""


async def first(run: Run) -> None:
    """A preview comes up."""
    await _deploy(run, "first", ok=True)


async def redeploy(run: Run) -> None:
    """Another commit takes its place."""
    await _deploy(run, "second", ok=True)


async def failing(run: Run) -> None:
    """A commit that never gets ready: the last good one is put back."""
    answer = await _deploy(run, "bad", ok=False)
    if answer is not None and answer["code"] != "deployment_not_ready":
        run.wrong(f"another outcome: {answer['code']} {answer['message']}")
    if answer is not None and answer["still_serving"] != run.chain.arena.commits["second"]:
        run.wrong(f"another outcome: still serving {answer['still_serving']}")


async def cancel(run: Run) -> None:
    """A deploy is cancelled while it builds."""
    deploy_id = f"{run.chain.slug}-cancel"
    deploying = asyncio.create_task(deploys(run, "hanging", deploy_id))

    async def building() -> bool:
        return run.chain.is_building() or deploying.done()

    await eventually(building, timeout=BOUND, what="the build runs")

    answer = await asks(run, "cancel", {"deploy_id": deploy_id}, _always)
    if answer is not None and not answer["ok"]:
        run.wrong(f"another outcome: cancel answered {answer}")
    failed = await deploying
    if failed is not None and (failed["ok"] or failed["code"] != "cancelled"):
        run.wrong(f"another outcome: {failed}")


async def approved(run: Run) -> None:
    """A deploy that the policy holds, and somebody approves."""
    final = await _held(run, "approve")
    if final is not None and not final["ok"]:
        run.wrong(f"another outcome: {final}")


async def rejected(run: Run) -> None:
    """One that somebody rejects."""
    _denied(run, await _held(run, "reject"), "ApprovalRefused")


async def expired(run: Run) -> None:
    """One of which nobody decides."""
    _denied(run, await _held(run, None), "ApprovalExpired")


async def _held(run: Run, verdict: str | None) -> Json | None:
    """The outcome of a held deploy after that verdict, the same for whoever asks."""
    deploy_id = f"{run.chain.slug}-{run.scenario.replace(' ', '-')}"
    body = {**run.chain.request("third", deploy_id), "ttl_seconds": HELD_TTL}
    answer = await asks(run, "provision", body, _always)
    if answer is not None and answer.get("code") not in ("awaiting_approval", "policy_denied"):
        run.wrong(f"another outcome: not held, but {answer}")
    if verdict is not None:
        answer = await asks(run, verdict, {"deploy_id": deploy_id, "by": "lead"}, _always)
        if answer is not None and not answer["ok"]:
            run.wrong(f"another outcome: {verdict} answered {answer}")
    try:
        async with asyncio.timeout(BOUND):
            await finished(run.chain, deploy_id)
            await run.settled()
    except TimeoutError:
        run.wrong(f"{deploy_id} waits for ever")
        return None
    if run.chain.provider is not None:
        run.chain.provider.gate.disarm()
    final, again = [await asks(run, "provision", body, _always) for _ in range(2)]
    if again != final:
        run.wrong(f"two different answers: {final} and {again}")
    return final


def _denied(run: Run, final: Json | None, reason: str) -> None:
    if final is not None and (final.get("code"), final.get("reason")) != ("policy_denied", reason):
        run.wrong(f"another outcome: {final}")


async def _always() -> bool:
    return True


async def teardown(run: Run) -> None:
    """Everything goes."""

    async def lost() -> bool:
        """Whether it has to be asked again; if not, it is being finished by whoever came next."""
        record = await run.chain.store.get_preview(run.chain.slug)
        return record is None or record.removed_at is not None or record.state is not PreviewState.REMOVING

    answer = await asks(run, "teardown", {"slug": run.chain.slug}, lost)
    await run.settled()
    if answer is not None and not answer["ok"]:
        run.wrong(f"another outcome: teardown answered {answer}")


async def _deploy(run: Run, app: str, *, ok: bool) -> Json | None:
    answer = await deploys(run, app, f"{run.chain.slug}-{run.scenario.replace(' ', '-')}")
    if answer is not None and answer["ok"] is not ok:
        run.wrong(f"another outcome: {answer}")
    return answer


SCENARIOS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "first deploy": first,
    "redeploy": redeploy,
    "failing deploy": failing,
    "cancel": cancel,
    "approval": approved,
    "rejection": rejected,
    "expiry": expired,
    "teardown": teardown,
}


HELD = frozenset({"approval", "rejection", "expiry"})
"""Those that want a policy; what they do is the same on every platform."""


async def play(chain: Chain, scenario: str, point: Point | None, judged: Judged | None = None) -> Run:
    """Play a scenario with a death at that point, and judge what came of it (as on a cluster, if not told else)."""
    run = Run(chain, scenario, point)
    if scenario == "expiry":
        await chain.changed(approval_seconds=HELD_SECONDS)
    provider = chain.provider or await chain.live()
    provider.gate.arm(point)
    async with watched_over(run):
        await SCENARIOS[scenario](run)
        await run.settled()
        assert chain.provider is not None
        chain.provider.gate.disarm()  # at once: what is still done in the background kills nobody any more
    run.effects = run.effects or provider.gate.effects
    run.problems += await settled(judged or (lambda: _judged(chain)))
    run.problems += [f"unhandled exception: {error}" for error in chain.provider.errors]
    chain.provider.errors.clear()
    return run


def judge_of(chain: Chain) -> Judge:
    """Who judges the chain's preview."""
    bodies = {chain.arena.commits[name]: app.body for name, app in APPS.items()}
    return Judge(place=chain.arena.place, store=chain.store, guest=chain.arena.guest, bodies=bodies)


async def _judged(chain: Chain) -> list[str]:
    return [*await judge_of(chain).violations(chain.slug), *chain.built_twice()]


async def settled(judged: Judged) -> list[str]:
    """What is still wrong after a while: controllers and clean-up need their time."""
    found: list[str] = []

    async def fine() -> bool:
        found[:] = await judged()
        return not found

    with contextlib.suppress(AssertionError):
        await eventually(fine, timeout=BOUND / 2)
    return found
