"""Two sessions at one preview: both claim it, and whoever did not get it goes on as if nothing had been said."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from tests.soak.asking import Question
from tests.soak.callers import Callers
from tests.soak.claims import Asked, Court

Json = dict[str, Any]

SESSIONS = ("left", "right")
SHORT_CLAIM, LONG_CLAIM = 3, 30
"""Seconds; the short one is left to expire."""


@dataclass
class Rivals:
    """All pairs of sessions; what they are told goes to `court`."""

    callers: Callers
    random: random.Random
    court: Court

    async def use(self, slug: str, budget: int) -> None:
        """Ask for about `budget` deploys of one preview, with claims around them."""
        before = self._deploys(slug)
        while self._deploys(slug) - before < budget:
            await self._round(slug)

    def _deploys(self, slug: str) -> int:
        return sum(one.slug == slug for one in self.callers.deploys)

    async def _round(self, slug: str) -> None:
        """Both claim; the winner works, the other one tries to; then the claim ends, or not."""
        seconds = self.random.choice((SHORT_CLAIM, LONG_CLAIM))
        claims = await asyncio.gather(*(self._claim(slug, session, seconds) for session in SESSIONS))
        won = [one.session for one in claims if one.question.answer.get("ok")]
        if not won:
            await self._deploy(slug, self.random.choice(SESSIONS))
            return
        holder = self.random.choice(won)
        other = SESSIONS[1 - SESSIONS.index(holder)]
        await asyncio.gather(self._work(slug, holder), self._intrude(slug, other))
        if seconds == SHORT_CLAIM:
            await asyncio.sleep(self.random.uniform(0, SHORT_CLAIM))
        await self._let_go(slug, holder, other)

    async def _work(self, slug: str, session: str) -> None:
        await self._deploy(slug, session)
        if self.random.random() < 0.3:
            await self._claim(slug, session, LONG_CLAIM)

    async def _intrude(self, slug: str, session: str) -> None:
        """What others try: each of it is refused; by force it is not."""
        for what in self.random.choices(("deploy", "teardown", "release", "claim"), (6, 2, 1, 3), k=2):
            await asyncio.sleep(self.random.uniform(0, 0.5))
            force = self.random.random() < 0.1
            if what == "deploy":
                await self._deploy(slug, session, force=force)
            elif what == "claim":
                await self._claim(slug, session, LONG_CLAIM, force=force)
            elif what == "teardown":
                await self._ask(what, slug, session, {"session_id": session, "force": force}, force=force)
            else:
                await self._ask(what, slug, session, {"session_id": session})

    async def _let_go(self, slug: str, holder: str, other: str) -> None:
        what = self.random.random()
        if what < 0.5:
            await self._ask("release", slug, holder, {"session_id": holder})
        elif what < 0.65:
            await self._ask("teardown", slug, holder, {"session_id": holder})
        elif what < 0.8:
            body = {"session_id": other, "from_session": holder}
            await self._ask("attach", slug, holder, body, to=other)

    # ------------------------------------------------------------------ requests

    async def _claim(self, slug: str, session: str, seconds: int, *, force: bool = False) -> Asked:
        body = {"session_id": session, "ttl_seconds": seconds, "force": force}
        return await self._ask("claim", slug, session, body, force=force)

    async def _deploy(self, slug: str, session: str, *, force: bool = False) -> None:
        deploy = self.callers.another(slug, session)
        self.court.take(Asked(slug, "deploy", session, deploy, force))
        await self.callers.deploy(deploy, force=force)

    async def _ask(self, what: str, slug: str, session: str, body: Json, *, force: bool = False, to: str = "") -> Asked:
        asked = self.court.take(Asked(slug, what, session, Question(), force, to))
        if what == "teardown":
            await self.callers.teardown({"slug": slug, **body}, asked.question)
        else:
            await self.callers.asking.ask(what, {"slug": slug, **body}, asked.question)
        return asked
