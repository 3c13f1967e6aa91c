"""Somebody who asks and keeps asking while providers die.

Who got an answer is content, and asks again by the same deploy id to hear the same; who was accepted waits; whose
request was lost repeats it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from provider.models import DeployRecord
from tests.crash.arena import Chain, Question
from tests.crash.gate import Point
from tests.e2e.helpers import eventually

Json = dict[str, Any]
BOUND = 30.0
"""Seconds within which whoever was accepted is answered, and everything is settled."""
PAUSE = 0.005


@dataclass
class Run:
    """One scenario with one death.

    Attributes:
        effects: what the provider that died, or none did, had done.
        problems: every invariant that did not hold.
    """

    chain: Chain
    scenario: str
    point: Point | None
    effects: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reached: bool = False

    def wrong(self, problem: str) -> None:
        """Take down what is wrong."""
        self.problems.append(problem)

    async def settled(self) -> None:
        """Wait until a provider lives that takes requests."""

        async def alive() -> bool:
            provider = self.chain.provider
            return provider is not None and provider.ready and not provider.gate.dead

        await eventually(alive, timeout=BOUND, what="a provider is up again")

    async def news(self, question: Question, lives: int) -> None:
        """Wait until the question has an answer, or another provider has come since that many had lived."""

        async def come() -> bool:
            return bool(question.answers) or question.absent or self.chain.lives > lives

        await eventually(come, timeout=2 * BOUND)


@asynccontextmanager
async def watched_over(run: Run) -> AsyncIterator[None]:
    """Whenever the provider is dead, the next one starts."""

    async def succeed() -> None:
        while True:
            provider = run.chain.provider
            assert provider is not None
            await provider.gate.died.wait()
            run.reached = True
            run.effects = provider.gate.effects
            await provider.kill()
            await run.chain.live()

    succession = asyncio.create_task(succeed())
    waiting = asyncio.current_task()
    assert waiting is not None
    succession.add_done_callback(lambda done: None if done.cancelled() else waiting.cancel())
    try:
        yield
    finally:
        succession.cancel()
        await asyncio.gather(succession, return_exceptions=True)


# ------------------------------------------------------------------------- who asks


async def deploys(run: Run, app: str, deploy_id: str) -> Json | None:
    """The answer to a deploy, after everything about it is over; None if there was none in time."""
    chain, body, lives = run.chain, run.chain.request(app, deploy_id), run.chain.lives
    questions = [await chain.ask("provision", body)]
    try:
        async with asyncio.timeout(BOUND):
            while not questions[-1].answers:
                await run.news(questions[-1], lives)
                await run.settled()
                lives = chain.lives
                if not questions[-1].answers and await chain.store.get_deploy(deploy_id) is None:
                    questions.append(await chain.ask("provision", body))
            await finished(chain, deploy_id)
            await run.settled()
    except TimeoutError:
        run.wrong(f"no answer: {deploy_id} after {len(questions)} requests; {await _shown(chain, deploy_id)}")
        return None
    chain.provider.gate.disarm() if chain.provider else None
    return await _same_again(run, body, deploy_id, questions)


async def _same_again(run: Run, body: Json, deploy_id: str, questions: list[Question]) -> Json:
    """Ask once more: every answer that was ever given is the same."""
    again = await run.chain.ask("provision", body)
    try:
        async with asyncio.timeout(BOUND):
            await run.news(again, run.chain.lives)
            await finished(run.chain, None)
    except TimeoutError:
        run.wrong(f"no answer: {deploy_id} asked again")
    answers = [answer for question in (*questions, again) for answer in question.answers]
    first = questions[-1].answers[0]
    for other in answers:
        if other != first:
            different = {
                key: (first.get(key), other.get(key)) for key in {*first, *other} if first.get(key) != other.get(key)
            }
            run.wrong(f"two different answers: {different}")
    return first


async def finished(chain: Chain, deploy_id: str | None) -> None:
    """Wait until the deploy is over, or (None) every one is."""
    while True:
        if deploy_id is not None:
            record = await chain.store.get_deploy(deploy_id)
            if record is not None and _over(record):
                return
        elif not await chain.store.unfinished_deploys():
            return
        await asyncio.sleep(PAUSE)


def _over(record: DeployRecord) -> bool:
    return record.finished_at is not None and all(waiter.answered for waiter in record.waiters)


async def _shown(chain: Chain, deploy_id: str) -> str:
    record = await chain.store.get_deploy(deploy_id)
    log = list(chain.provider.log) if chain.provider is not None else []
    if record is None:
        return f"no record; {log}"
    return f"in {record.phase} of {record.owner}, report {record.report is not None}; {log}"


async def asks(run: Run, endpoint: str, body: Json, lost: Callable[[], Awaitable[bool]]) -> Json | None:
    """The answer to another request, which is repeated if `lost` says so after a death."""
    lives, question = run.chain.lives, await run.chain.ask(endpoint, body)
    try:
        async with asyncio.timeout(BOUND):
            while not question.answers:
                await run.news(question, lives)
                if not question.answers:
                    await run.settled()
                    await eventually(lost, timeout=2 * BOUND)
                    lives, question = run.chain.lives, await run.chain.ask(endpoint, body)
    except TimeoutError:
        run.wrong(f"no answer: {endpoint}")
        return None
    return question.answers[0]
