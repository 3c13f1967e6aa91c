"""A request that is repeated until somebody answers it, and every answer that ever came."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from provider.bus.subjects import Subjects

Json = dict[str, Any]

REPEAT_SECONDS = 4.0
ANSWER_SECONDS = 1200.0
"""As long as the platform waits."""
LATE = 25.0
"""Seconds after its answer within which a repeated request may be done again; see `chaos.LONGEST_FREEZE`."""


@dataclass
class Question:
    """One request as its caller knows it. Moments are the machine's clock, which providers use, too.

    Attributes:
        answers: all of them, and in `moments` when each came.
        sent: when it was sent first.
        times: how often it was sent: each time, somebody may do it.
    """

    answers: list[Json] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    sent: float = 0.0
    times: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> float:
        """The moment after which nobody does it any more: a process that was stopped does a repeated one late."""
        if not self.moments:
            return float("inf")
        return self.moments[-1] if len(self.moments) >= self.times else self.moments[-1] + LATE

    @property
    def answer(self) -> Json:
        """The first answer; empty if there was none."""
        return self.answers[0] if self.answers else {}

    async def answered(self, message: Msg) -> None:
        """Keep an answer; "nobody is there" is none."""
        if (message.headers or {}).get("Status") != "503":
            self.take(json.loads(message.data))
            self.heard.set()

    def take(self, answer: Json) -> None:
        """Keep it."""
        self.answers.append(answer)
        self.moments.append(time.time())


@dataclass
class Asking:
    """Asks, and asks again. `unanswered` has what nobody answered in time."""

    nc: Client
    subjects: Subjects
    random: random.Random
    unanswered: list[str] = field(default_factory=list)

    async def ask(self, endpoint: str, body: Json, question: Question | None = None) -> Question:
        """Ask until there is an answer."""
        question = question or Question()
        payload, inbox = json.dumps(body).encode(), self.nc.new_inbox()
        await self.nc.subscribe(inbox, cb=question.answered)  # kept: a second answer has to be the same
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not question.answers:
                    await self._once(endpoint, payload, inbox, question)
        except TimeoutError:
            self.unanswered.append(f"{endpoint} {body}")
        return question

    async def _once(self, endpoint: str, payload: bytes, inbox: str, question: Question) -> None:
        question.sent = question.sent or time.time()
        question.times += 1
        question.heard.clear()
        await _bravely(lambda: self.nc.publish(self.subjects.request(endpoint), payload, reply=inbox))
        try:
            async with asyncio.timeout(REPEAT_SECONDS * self.random.uniform(0.5, 1.5)):
                await question.heard.wait()
        except TimeoutError:
            return


async def _bravely(publish: Callable[[], Awaitable[None]]) -> None:
    try:
        await publish()
    except nats.errors.Error:
        return  # the bus is away; it is repeated
