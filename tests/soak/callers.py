"""Who asks: one caller a preview, who pushes rapidly, cancels, tears down, and repeats what nobody answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.e2e.apps import spec_of
from tests.soak.asking import Asking, Question
from tests.soak.world import APPS, GOOD, REPO

Json = dict[str, Any]

ON_ITS_WAY = 0.1
"""Seconds for which a refusal may have been on its way when another provider made the record."""


class Where(Protocol):
    """The world that they ask: the commits by their app's name, and when each deploy's record was made."""

    commits: dict[str, str]
    born: dict[str, float]


@dataclass
class Deploy(Question):
    """One deploy as its caller knows it; `refused`: each time that it was told that it is not even accepted."""

    deploy_id: str = ""
    slug: str = ""
    app: str = ""
    session: str | None = None
    refused: list[tuple[float, Json]] = field(default_factory=list)

    def take(self, answer: Json) -> None:
        """A refusal that may be asked again is no answer: nothing was accepted."""
        if answer.get("retryable") and "deploy_id" not in answer:
            self.refused.append((time.time(), answer))
        else:
            super().take(answer)


@dataclass
class Callers:
    """All callers.

    Attributes:
        deploys: every one that was asked for.
        teardowns: by slug, those that were not refused.
        odd: answers that nothing of what was done explains.
    """

    world: Where
    random: random.Random
    asking: Asking
    deploys: list[Deploy] = field(default_factory=list)
    teardowns: dict[str, list[Question]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    async def use(self, slug: str, budget: int) -> None:
        """Ask for `budget` deploys of one preview, and for other things in between."""
        left = budget
        while left > 0:
            burst = min(left, self.random.choice((1, 1, 1, 2, 3)))
            left -= burst
            asked = [asyncio.create_task(self.deploy(self.another(slug))) for _ in range(burst)]
            await asyncio.sleep(self.random.uniform(0, 1.5))
            what = self.random.random()
            if what < 0.15:
                await self.asking.ask("cancel", {"deploy_id": self._last(slug).deploy_id})
            elif what < 0.25:
                await self.teardown({"slug": slug})
            await asyncio.gather(*asked)

    def _last(self, slug: str) -> Deploy:
        return next(one for one in reversed(self.deploys) if one.slug == slug)

    def another(self, slug: str, session: str | None = None) -> Deploy:
        """A deploy of some app, to be asked for."""
        app = self.random.choice((*GOOD, *GOOD, "crashes", "breaks", "slow"))
        self.deploys.append(Deploy(deploy_id=f"{slug}-{len(self.deploys)}", slug=slug, app=app, session=session))
        return self.deploys[-1]

    async def deploy(self, deploy: Deploy, *, force: bool = False) -> None:
        """Ask for it, and look at its answer."""
        body = {
            "preview_yaml": spec_of(deploy.slug),
            "repo_full_name": REPO,
            "branch": "main",
            "commit_sha": self.world.commits[deploy.app],
            "installation_id": 4711,
            "deploy_id": deploy.deploy_id,
            "force": force,
        }
        if deploy.session is not None:
            body["session_id"] = deploy.session
        if self.random.random() < 0.3:
            body["extra_env"] = {"MORE": str(self.random.randrange(3))}
        await asyncio.sleep(self.random.uniform(0, 0.2))
        await self.asking.ask("provision", body, deploy)
        self._look_at(deploy)

    def _look_at(self, deploy: Deploy) -> None:
        answer, title = deploy.answer, f"{deploy.deploy_id} ({deploy.app})"
        if answer.get("code") == "internal_error" or (answer.get("code") == "claimed" and deploy.session is None):
            self.odd.append(f"{title}: {answer}")
        elif answer.get("ok") and deploy.app not in GOOD and deploy.app != "slow":
            self.odd.append(f"{title} succeeded")

    async def again(self, deploy: Deploy) -> None:
        """Ask once more: the same must come."""
        status = (await self.asking.ask("status", {"deploy_id": deploy.deploy_id})).answer
        if status.get("report") is None:
            self.odd.append(f"{deploy.deploy_id}: no report in its record: {status}")
        elif deploy.answers and status["report"].get("code") != deploy.answer.get("code"):
            self.odd.append(f"{deploy.deploy_id}: answered {deploy.answer.get('code')}, but {status['report']}")

    async def teardown(self, body: Json, question: Question | None = None) -> None:
        """Ask for a teardown; one that is refused removes nothing."""
        asked = await self.asking.ask("teardown", body, question)
        if any(answer.get("code") != "claimed" for answer in asked.answers):
            self.teardowns.setdefault(body["slug"], []).append(asked)

    def told(self) -> Counter[str]:
        """How many deploys ended with which code."""
        return Counter(str(one.answer.get("code", "ok")) for one in self.deploys if one.answers)

    def different(self) -> list[str]:
        """Deploys with two answers that say different things, or with a refusal though there was a record."""
        answers = [
            f"{one.deploy_id}: {one.answer} and {other}"
            for one in self.deploys
            for other in one.answers[1:]
            if other != one.answer
        ]
        born = self.world.born
        return answers + [
            f"{one.deploy_id}: accepted {at - born[one.deploy_id]:.2f} s before it was refused: {answer}"
            for one in self.deploys
            for at, answer in one.refused
            if at - born.get(one.deploy_id, at) > ON_ITS_WAY
        ]


assert set(GOOD) < set(APPS)
