"""Who follows a build that says much: how fast it comes, what memory it takes, and what many followers cost."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from provider.client import PreviewClient, PreviewFailed, new_deploy_id
from provider.demo.sample_app import sample_files
from provider.demo.world import World
from tests.bench.process import cpu, resident
from tests.bench.report import Row, median

LINES = 100_000
MANY = 50
ROUNDS = 3
SLUG = "says-much"
REPO = f"bench/{SLUG}"
PEEK_SECONDS = 0.02
SETTLE_SECONDS = 1.0


@dataclass(slots=True)
class Read:
    """What a follower got of the build's numbered lines, and between which moments."""

    numbers: list[str] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    def take(self, lines: tuple[str, ...]) -> None:
        """Some lines came."""
        if found := [line for line in lines if line.isdigit()]:
            self.first = self.first or time.perf_counter()
            self.numbers += found
            self.last = time.perf_counter()

    def check(self, count: int) -> None:
        """All of them, in order."""
        assert self.numbers == [str(number) for number in range(1, count + 1)], "whole and in order"


@dataclass(slots=True)
class Run:
    """Some who followed a log: seconds of the provider's CPU meanwhile, and the most memory that it had, in MB."""

    reads: list[Read]
    began: float
    cpu: float = 0.0
    memory: float = 0.0


class FollowerBench:
    """The measurements of one world."""

    def __init__(self, world: World, *, many: int = MANY, rounds: int = ROUNDS) -> None:
        self._world = world
        self._many = many
        self._rounds = rounds
        self._deploy_id = ""
        self._most = 0.0

    async def rows(self) -> list[Row]:
        """Builds that one or many follow as they go on, in turns; then the last one's log, which is kept."""
        await self._built(1, 1000)
        before = self._memory()
        alone, together = [await self._built(1)], list[Run]()
        growth = alone[0].memory - before
        for _ in range(self._rounds):
            alone.append(await self._built(1))
            together.append(await self._built(self._many))
        many = max(run.memory for run in together) - before
        speed = median([LINES / (run.reads[0].last - run.reads[0].first) for run in alone])
        one, all_of_them = median([run.cpu for run in alone]), median([run.cpu for run in together])
        kept_one, kept_all = await self._followed(1), await self._followed(self._many)
        rate = LINES / (kept_one.reads[0].last - kept_one.began)
        costs = f"the provider's CPU: {all_of_them:.2f} s, one {one:.2f} s"
        later = f"of what is kept later: {1000 * kept_all.cpu:.0f} ms, one {1000 * kept_one.cpu:.0f} ms"
        grown = f"from {before:.0f} MB; {many:.0f} MB with {self._many}"
        return [
            Row("a follower of a build", speed, 20_000, "lines/s", f"of what is kept later: {rate:.0f}", at_least=True),
            Row("memory: a followed build", growth, 30, "MB", grown),
            Row(f"{self._many} followers / one", all_of_them / one, 2, "ratio", f"{costs}; {later}"),
        ]

    async def _built(self, followers: int, lines: int = LINES) -> Run:
        """A build that says so many lines, from the request until each follower has all."""
        await asyncio.sleep(SETTLE_SECONDS)
        self._deploy_id = new_deploy_id()
        peeking = asyncio.create_task(self._peek())
        deploying = asyncio.create_task(self._deploy(f"RUN : {self._deploy_id}; seq 1 {lines}", self._deploy_id))
        await self._known()
        run = await self._followed(followers, lines)
        await deploying
        peeking.cancel()
        run.memory = self._most
        return run

    async def _followed(self, count: int, lines: int = LINES) -> Run:
        """So many follow at once, each over a connection of its own."""
        address = self._world.stack.nats.address
        async with AsyncExitStack() as connections:
            clients = [
                await connections.enter_async_context(PreviewClient.connect(nats_url=address)) for _ in range(count)
            ]
            run = Run([Read() for _ in range(count)], began=time.perf_counter())
            before = cpu(self._pid)
            await asyncio.gather(*map(self._follow, clients, run.reads))
            run.cpu = cpu(self._pid) - before
        for read in run.reads:
            read.check(lines)
        return run

    async def _follow(self, client: PreviewClient, read: Read) -> None:
        async for look in client.follow(deploy_id=self._deploy_id, include=["build_logs"]):
            read.take(look.lines)

    async def _peek(self) -> None:
        """See how much memory there is at the most."""
        self._most = 0.0
        while True:
            self._most = max(self._most, self._memory())
            await asyncio.sleep(PEEK_SECONDS)

    async def _deploy(self, printing: str, deploy_id: str) -> None:
        files = sample_files(self._world.base_image, commit_message=printing, name=SLUG)
        files["Dockerfile"] = f"{files['Dockerfile']}\n{printing}\n"
        sha = await self._world.commit(REPO, files)
        await self._world.client.deploy(
            REPO, "main", commit_sha=sha, installation_id=self._world.installation_id, deploy_id=deploy_id
        )

    async def _known(self) -> None:
        while True:
            try:
                await self._world.client.status(deploy_id=self._deploy_id)
            except PreviewFailed:
                await asyncio.sleep(PEEK_SECONDS)
            else:
                return

    @property
    def _pid(self) -> int:
        return int(self._world.provider.pid or 0)

    def _memory(self) -> float:
        return next(megabytes for name, megabytes in resident(self._pid).items() if name.endswith(f" {self._pid}"))
