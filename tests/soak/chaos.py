"""What goes wrong: providers are killed and stopped, the bus dies, the API server refuses, slows down and forgets."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from provider.demo.processes import Server, StackError
from tests.cluster.standin.faults import Fault
from tests.soak.world import SoakWorld

PROVIDER = "system:serviceaccount:*"
STARTS = 10
"""How often whoever supervises a provider starts it again that ended by itself."""
LONGEST_FREEZE = 20.0
"""Seconds: longer than a lease."""
SPARED_SECONDS = 25.0
"""One provider in turn is let live for so long: who has died for good is noticed by somebody who saw it for a lease."""


@dataclass
class Chaos:
    """A fixed number of each, spread over the time that the callers take; `done` counts them."""

    world: SoakWorld
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    _kills: Counter[str] = field(default_factory=Counter)
    _starting: set[asyncio.Task[None]] = field(default_factory=set)

    async def signals(self, kills: int, pause: float) -> None:
        """Three of four are SIGKILL, one is SIGSTOP and SIGCONT; a new process starts at once or a little later."""
        while self.done["SIGKILL"] + self.done["SIGSTOP"] < kills:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            one = self.random.choice(self._mortal())
            if one.pid is None or one.name in self.world.stopped:
                continue
            if self.random.random() < 0.75:
                await self.world.kill(one)
                self.done["SIGKILL"] += 1
                self._kills[one.name] += 1
                self._later(one)
            else:
                self.done["SIGSTOP"] += 1
                self._freeze(one)

    def _mortal(self) -> list[Server]:
        """All but the one whose turn it is to live."""
        everyone = self.world.providers
        spared = int(time.monotonic() / SPARED_SECONDS) % len(everyone)
        return everyone[:spared] + everyone[spared + 1 :]

    async def bus(self, restarts: int, pause: float) -> None:
        """Kill nats-server and start it again on its store."""
        for _ in range(restarts):
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            await self.world.nats.kill()
            await asyncio.sleep(self.random.uniform(0.0, 1.0))
            await self.world.nats.start()
            self.done["nats-server killed"] += 1

    async def api(self, pause: float) -> None:
        """Faults of the API server, until it is cancelled."""
        server = self.world.cluster.api
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            what = self.random.choice(("429", "500", "cut", "lost", "watches", "expired", "slow", "outage"))
            self.done[f"API {what}"] += 1
            if what == "watches":
                server.cut_watches()
            elif what == "expired":
                server.expire_watches()
            elif what == "outage":
                await server.stop()
                await asyncio.sleep(self.random.uniform(0.1, 1.0))
                await server.start()
            else:
                fault = self._fault(what)
                await asyncio.sleep(pause / 2)
                server.faults.lift(fault)

    def _fault(self, what: str) -> Fault:
        """Some requests of providers meet it."""
        faults, times = self.world.cluster.api.faults, self.random.randint(1, 5)
        if what == "429":
            return faults.too_many(1, user=PROVIDER, times=times)
        if what == "500":
            return faults.error(500, user=PROVIDER, times=times)
        if what == "slow":
            return faults.delay(0.5, user=PROVIDER, times=times)
        return faults.cut(done=what == "lost", user=PROVIDER, times=times)

    async def end(self) -> None:
        """Everything is well again, and every provider runs."""
        self.world.cluster.api.faults.clear()
        await asyncio.gather(*self._starting, return_exceptions=True)  # whoever did not start then, has to now
        for one in self.world.providers:
            if one.pid is None:
                await one.start()

    def _later(self, one: Server) -> None:
        async def start() -> None:
            await asyncio.sleep(self.random.choice((0.0, 0.0, 2.0)))
            kills = self._kills[one.name]
            for _ in range(STARTS):
                with suppress(StackError):  # a provider ends when the bus does not answer it at its start
                    await one.start()
                if one.pid is not None or self._kills[one.name] != kills:  # killed again: that is another start
                    return
                self.done["started again"] += 1

        self._beside(start())

    def _freeze(self, one: Server) -> None:
        """For longer than its lease at times."""

        async def thaw() -> None:
            process = one.pid
            await asyncio.sleep(self.random.choice((0.5, 2.0, LONGEST_FREEZE)))
            if one.pid == process and one.name in self.world.stopped:
                self.world.stopped.discard(one.name)
                self.world.signal(one, signal.SIGCONT)

        self.world.stopped.add(one.name)
        self.world.signal(one, signal.SIGSTOP)
        self._beside(thaw())

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
