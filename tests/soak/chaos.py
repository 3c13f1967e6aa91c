"""What goes wrong: providers are killed and stopped, the bus dies, the API server refuses, slows down and forgets."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field

from provider.demo.processes import Server
from tests.soak.world import SoakWorld

PROVIDER = "system:serviceaccount:*"


@dataclass
class Chaos:
    """A fixed number of each, spread over the time that the callers take; `done` counts them."""

    world: SoakWorld
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    _starting: set[asyncio.Task[None]] = field(default_factory=set)

    async def signals(self, kills: int, pause: float) -> None:
        """Three of four are SIGKILL, one is SIGSTOP and SIGCONT; a new process starts at once or a little later."""
        for _ in range(kills):
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            one = self.random.choice(self.world.providers)
            if one.pid is None or one.name in self.world.stopped:
                continue
            if self.random.random() < 0.75:
                await self.world.kill(one)
                self.done["SIGKILL"] += 1
                self._later(one)
            else:
                self.done["SIGSTOP"] += 1
                self._freeze(one)

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
        faults = server.faults
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
                times = self.random.randint(1, 5)
                fault = {
                    "429": lambda: faults.too_many(1, user=PROVIDER, times=times),
                    "500": lambda: faults.error(500, user=PROVIDER, times=times),
                    "cut": lambda: faults.cut(user=PROVIDER, times=times),
                    "lost": lambda: faults.cut(done=True, user=PROVIDER, times=times),
                    "slow": lambda: faults.delay(0.5, user=PROVIDER, times=times),
                }[what]()
                await asyncio.sleep(pause / 2)
                faults.lift(fault)

    async def end(self) -> None:
        """Everything is well again, and every provider runs."""
        self.world.cluster.api.faults.clear()
        await asyncio.gather(*self._starting)
        for one in self.world.providers:
            if one.pid is None:
                await one.start()

    def _later(self, one: Server) -> None:
        async def start() -> None:
            await asyncio.sleep(self.random.choice((0.0, 0.0, 2.0)))
            await one.start()

        self._beside(start())

    def _freeze(self, one: Server) -> None:
        """For longer than its lease at times."""

        async def thaw() -> None:
            process = one.pid
            await asyncio.sleep(self.random.choice((0.5, 2.0, 12.0)))
            if one.pid == process and one.name in self.world.stopped:
                self.world.stopped.discard(one.name)
                self.world.signal(one, signal.SIGCONT)

        self.world.stopped.add(one.name)
        self.world.signal(one, signal.SIGSTOP)
        self._beside(thaw())

    def _beside(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type,var-annotated]
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
