"""An asker that asks once over the bus, as the platform does, and keeps whatever its inbox gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nats.aio.msg import Msg

from provider.client import new_deploy_id
from tests.cluster.world import INSTALLATION, PATIENCE, ClusterWorld

Json = dict[str, Any]


@dataclass
class Asker:
    """One request, its events, and its answers: the first that comes, and every other."""

    deploy_id: str
    answers: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answered(self, message: Msg) -> None:
        """Keep an answer."""
        self.answers.append(json.loads(message.data))
        self._changed.set()

    async def told(self, message: Msg) -> None:
        """Keep an event, if it is about this deploy."""
        event = json.loads(message.data)
        if event["deploy_id"] == self.deploy_id:
            self.events.append(event)
            self._changed.set()

    async def phase(self, name: str) -> None:
        """Wait until a phase has begun."""
        await self.event(lambda event: event["type"] == "phase.started" and event["phase"] == name)

    async def line(self, text: str) -> None:
        """Wait for a line of the build's log."""
        await self.event(lambda event: any(text in line for line in event["data"].get("lines", ())))

    async def warning(self) -> None:
        """Wait until something is tried again."""
        await self.event(lambda event: event["type"] == "warning")

    async def event(self, wanted: Callable[[Json], bool]) -> None:
        """Wait for an event; an answer that comes first is an error."""
        await self._until(lambda: any(map(wanted, self.events)) or bool(self.answers))
        assert any(map(wanted, self.events)), f"answered first: {self.answers}"

    async def answer(self, timeout: float = PATIENCE) -> Json:
        """The answer; a second one that says something else is an error."""
        await self._until(lambda: bool(self.answers), timeout)
        first, *more = self.answers
        assert [one for one in more if one != first] == [], "two different answers"
        return first

    async def _until(self, reached: Callable[[], bool], timeout: float = 60.0) -> None:
        async with asyncio.timeout(timeout):
            while not reached():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def asked(world: ClusterWorld, endpoint: str, **body: Any) -> AsyncIterator[Asker]:
    """Publish a request, once; whoever answers, and whenever, is heard."""
    nats, asker = world.client.nats, Asker(str(body.get("deploy_id", "")))
    inbox = nats.new_inbox()
    subscriptions = [
        await nats.subscribe(inbox, cb=asker.answered),
        await nats.subscribe(world.client.subjects.all_events, cb=asker.told),
    ]
    try:
        await nats.publish(world.client.subjects.request(endpoint), json.dumps(body).encode(), reply=inbox)
        yield asker
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()


@asynccontextmanager
async def deploying(world: ClusterWorld, name: str, sha: str, **fields: Any) -> AsyncIterator[Asker]:
    """Ask for a deploy of `acme/<name>`."""
    body = {"repo_full_name": f"acme/{name}", "branch": "main", "commit_sha": sha, "installation_id": INSTALLATION}
    async with asked(world, "provision", deploy_id=new_deploy_id(), **body, **fields) as asker:
        yield asker
