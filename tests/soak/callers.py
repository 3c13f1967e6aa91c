"""Who asks: one caller a preview, who pushes rapidly, cancels, tears down, and repeats what nobody answered."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from tests.e2e.apps import spec_of
from tests.soak.world import APPS, GOOD, REPO, SoakWorld

Json = dict[str, Any]

REPEAT_SECONDS = 4.0
ANSWER_SECONDS = 300.0


@dataclass
class Deploy:
    """One deploy as its caller knows it: every answer that ever came."""

    deploy_id: str
    slug: str
    answers: list[Json] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def answered(self, message: Msg) -> None:
        """Keep an answer; "nobody is there" is none."""
        if (message.headers or {}).get("Status") != "503":
            self.answers.append(json.loads(message.data))
            self.heard.set()


@dataclass
class Callers:
    """All callers.

    Attributes:
        deploys: every one that was asked for.
        teardowns: by slug, when each was asked for and answered.
        odd: answers that nothing of what was done explains.
    """

    world: SoakWorld
    random: random.Random
    deploys: list[Deploy] = field(default_factory=list)
    teardowns: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    async def use(self, slug: str, budget: int) -> None:
        """Ask for `budget` deploys of one preview, and for other things in between."""
        left = budget
        while left > 0:
            burst = min(left, self.random.choice((1, 1, 1, 2, 3)))
            left -= burst
            asked = [asyncio.create_task(self._deploy(slug)) for _ in range(burst)]
            await asyncio.sleep(self.random.uniform(0, 1.5))
            what = self.random.random()
            if what < 0.15:
                await self._ask("cancel", {"deploy_id": self._last(slug).deploy_id})
            elif what < 0.25:
                await self._teardown(slug)
            await asyncio.gather(*asked)

    def _last(self, slug: str) -> Deploy:
        return next(one for one in reversed(self.deploys) if one.slug == slug)

    async def _deploy(self, slug: str) -> None:
        app = self.random.choice((*GOOD, *GOOD, "crashes", "breaks", "slow"))
        deploy = Deploy(f"{slug}-{len(self.deploys)}", slug)
        self.deploys.append(deploy)
        body = {
            "preview_yaml": spec_of(slug),
            "repo_full_name": REPO,
            "branch": "main",
            "commit_sha": self.world.commits[app],
            "installation_id": 4711,
            "deploy_id": deploy.deploy_id,
        }
        if self.random.random() < 0.3:
            body["extra_env"] = {"MORE": str(self.random.randrange(3))}
        await asyncio.sleep(self.random.uniform(0, 0.2))
        if not await self._until_answered("provision", body, deploy):
            self.unanswered.append(deploy.deploy_id)
        elif deploy.answers[0].get("code") == "internal_error":
            self.odd.append(f"{deploy.deploy_id} ({app}): {deploy.answers[0]}")
        elif deploy.answers[0]["ok"] and app not in GOOD and app != "slow":
            self.odd.append(f"{deploy.deploy_id} ({app}) succeeded")

    async def again(self, deploy: Deploy) -> None:
        """Ask once more: the same must come."""
        heard = len(deploy.answers)
        body = {"deploy_id": deploy.deploy_id}
        status = await self._ask("status", body)
        if status is None or status.get("report") is None:
            self.odd.append(f"{deploy.deploy_id}: no report in its record: {status}")
        elif heard and status["report"].get("code") != deploy.answers[0].get("code"):
            self.odd.append(f"{deploy.deploy_id}: answered {deploy.answers[0].get('code')}, but {status['report']}")

    async def _teardown(self, slug: str) -> None:
        began = time.monotonic()
        await self._ask("teardown", {"slug": slug})
        self.teardowns.setdefault(slug, []).append((began, time.monotonic()))

    async def _ask(self, endpoint: str, body: Json) -> Json | None:
        """The answer to a request that is repeated until somebody takes it."""
        question = Deploy(endpoint, "")
        if await self._until_answered(endpoint, body, question):
            return question.answers[0]
        self.unanswered.append(f"{endpoint} {body}")
        return None

    async def _until_answered(self, endpoint: str, body: Json, question: Deploy) -> bool:
        nc, payload = self.world.nc, json.dumps(body).encode()
        inbox = nc.new_inbox()
        await nc.subscribe(inbox, cb=question.answered)  # kept: a second answer has to be the same
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not question.answers:
                    await _bravely(lambda: nc.publish(self.world.subjects.request(endpoint), payload, reply=inbox))
                    try:
                        async with asyncio.timeout(REPEAT_SECONDS * self.random.uniform(0.5, 1.5)):
                            await question.heard.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            return False
        return True

    def different(self) -> list[str]:
        """Deploys with two answers that say different things."""
        return [
            f"{one.deploy_id}: {one.answers[0]} and {other}"
            for one in self.deploys
            for other in one.answers[1:]
            if other != one.answers[0]
        ]


async def _bravely(publish: Callable[[], Awaitable[None]]) -> None:
    try:
        await publish()
    except nats.errors.Error:
        return  # the bus is away; it is repeated


assert set(GOOD) < set(APPS)
