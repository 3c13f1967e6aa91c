"""The measurements on Kubernetes: a provider's process, the stand-in's process, and a model of the present provider."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from provider.demo.processes import Server, clean_environment
from tests.bench.cluster_process import MANY, MANY_SECONDS, READY
from tests.bench.present import Present
from tests.bench.process import cpu, peak, resident, start_to_ready
from tests.bench.report import Row, median, p99
from tests.cluster.admin import admin
from tests.cluster.places import DOMAIN, Place
from tests.cluster.world import SOURCE, ClusterWorld, as_installed, cluster_world

Figures = dict[str, Any]
IDLE_SECONDS = 3.0
SETTLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """How much is measured: starts, first deploys one by one, deploys of the present provider's model among them,
    the same commit again, and how often each of those at once deploys.
    """

    starts: int
    deploys: int
    present: int
    repeats: int
    laps: int


FULL = ClusterSize(starts=5, deploys=24, present=4, repeats=20, laps=2)
QUICK = ClusterSize(starts=3, deploys=6, present=1, repeats=5, laps=1)
AT_ONCE = (1, 10, 50)
PATIENT = {
    "VERIFY_TIMEOUT": "60",
    "DEPLOYS_AT_ONCE": "300",
    "BUILDS_AT_ONCE": "300",
    "BUILDS_PER_REPOSITORY": "300",
}
"""Settings under which nothing waits for a turn: what is measured is the provider, not its limits."""


@dataclass(frozen=True, slots=True)
class Deploy:
    """One deploy by the asker's clock; `job` is its build's."""

    slug: str
    job: str
    began: float
    ended: float
    phases: Mapping[str, float]

    def own(self, figures: Figures) -> float:
        """Milliseconds without those that the cluster took: the build, the rollout, and its way to the ingress."""
        return self.unled(figures) - self.not_led(figures)

    def unled(self, figures: Figures, build_ends: str = "done") -> float:
        """Milliseconds without build and rollout; the ingress, which learns of that later, is waited for in them."""
        build, rollout = figures["builds"][self.job], figures["rollouts"][self.slug]
        cluster = build[build_ends] - build["asked"] + rollout["done"] - rollout["asked"]
        return 1000.0 * (self.ended - self.began - float(cluster))

    def not_led(self, figures: Figures) -> float:
        """Milliseconds from the complete rollout until the ingress led to it."""
        led = min(at for pod, at in figures["led"].items() if pod.startswith(f"{self.slug}-"))
        return 1000.0 * max(0.0, float(led - figures["rollouts"][self.slug]["done"]))

    def own_phases(self, figures: Figures) -> dict[str, float]:
        """Where they went. What comes after the Deployment's apply is in parallel to its rollout."""
        build, rollout = figures["builds"][self.job], figures["rollouts"][self.slug]
        own = {name: 1000 * seconds for name, seconds in self.phases.items() if name != "total"}
        own["build"] -= 1000 * (build["done"] - build["asked"])
        own["verify"] -= self.not_led(figures)
        own["deploy+rollout"] = own.pop("deploy") + own.pop("rollout") - 1000 * (rollout["done"] - rollout["asked"])
        return {**own, "rest": 1000 * (self.ended - self.began - sum(self.phases.values()) + self.phases["total"])}


@dataclass(frozen=True, slots=True)
class StandIn:
    """A provider on the stand-in, where the stand-in tells its figures, and a way in for others."""

    world: ClusterWorld
    http: httpx.AsyncClient
    figures: str
    kubeconfig: Path


@asynccontextmanager
async def stand_in_world(more: Mapping[str, str] | None = None) -> AsyncIterator[StandIn]:
    """Both processes, started; the provider with these settings beside the usual ones."""
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as name:
        folder = Path(name)
        cluster = Server(
            name="cluster",
            argv=(sys.executable, "-m", "tests.bench.cluster_process", name),
            ready=READY,
            folder=folder,
            env={**clean_environment(folder), "PYTHONPATH": SOURCE},
        )
        await cluster.start()
        try:
            told = json.loads((folder / "place.json").read_text())
            async with admin(folder / "admin.kubeconfig") as api, httpx.AsyncClient(trust_env=False) as http:
                where = {**told["place"], "api": api}
                place = Place(**where | {key: Path(where[key]) for key in ("kubeconfig", "ca_file")})
                world_folder = folder / "world"
                world_folder.mkdir()
                async with cluster_world(
                    place, world_folder, {**PATIENT, **(more or {})}, process=as_installed
                ) as world:
                    yield StandIn(world, http, told["figures"], folder / "admin.kubeconfig")
        finally:
            await cluster.stop()


class ClusterBench:
    """The measurements of one stand-in, in the order in which `rows` takes them."""

    def __init__(self, stand_in: StandIn, size: ClusterSize) -> None:
        self._world = stand_in.world
        self._http = stand_in.http
        self._url = stand_in.figures
        self._size = size
        place = stand_in.world.place
        self._present = Present(kubeconfig=stand_in.kubeconfig, previews=place.previews, builds=place.builds)
        self._numbers = itertools.count()
        self._shas: dict[str, str] = {}

    async def rows(self) -> list[Row]:
        """Everything."""
        return [*await self.start(), *await self.one_by_one(), *await self.same(), *await self.at_once()]

    async def start(self) -> list[Row]:
        """From the start of the process to its first answer, and the memory that it then holds."""
        provider = self._world.provider
        seconds = [await start_to_ready(provider, self._world.client) for _ in range(self._size.starts)]
        await asyncio.sleep(IDLE_SECONDS)
        memory = sum(resident(self._pid).values())
        detail = f"p50 of {len(seconds)}; slowest {max(seconds):.2f} s"
        return [
            Row("k8s: start to ready", median(seconds), 2.0, "s", detail, tuple(seconds)),
            Row("k8s: idle memory", memory, 160, "MB", "resident, 3 s after the start"),
        ]

    async def one_by_one(self) -> list[Row]:
        """First deploys, each when the one before is over; deploys by the present provider's model among them."""
        await self._deploy(await self._committed())
        ours: list[Deploy] = []
        present: list[Deploy] = []
        spent: list[Figures] = []
        every = self._size.deploys // self._size.present
        for number in range(self._size.deploys):
            name = await self._committed()
            before = await self._settled()
            ours.append(await self._deploy(name))
            spent.append(_difference(before, await self._settled()))
            if number % every == 0:
                present.append(await self._present_deploy())
        figures = await self._figures()
        own, ratio = _own_rows(ours, present, figures)
        requests = [_request_row("first deploy", 14, spent), _connection_row(spent)]
        return [own, *_stand_in_rows(ours, spent, figures), ratio, *requests]

    async def same(self) -> list[Row]:
        """The commit that serves already, asked for again."""
        name = await self._committed()
        await self._deploy(name)
        spent: list[Figures] = []
        times: list[float] = []
        for _ in range(self._size.repeats):
            before = await self._settled()
            again = await self._deploy(name, built=False)
            times.append(1000 * (again.ended - again.began))
            spent.append(_difference(before, await self._settled()))
        return [_request_row("the same commit again", 8, spent, f"; {median(times):.0f} ms from request to reply")]

    async def at_once(self) -> list[Row]:
        """So many deploys under way: own share, open watches, memory."""
        watches: dict[int, int] = {}
        for count in AT_ONCE:
            names = await self.committed(count)
            before = await self._figures()
            provider_before = cpu(self._pid)
            under_way = asyncio.create_task(self.under_way(names))
            await asyncio.sleep(MANY_SECONDS)
            watches[count] = (await self._figures())["watches"]
            deploys = await under_way
        figures = await self._settled()
        own = tuple(one.own(figures) for one in deploys)
        theirs = 1000 * (figures["cpu"] - before["cpu"]) / len(deploys)
        mine = 1000 * (cpu(self._pid) - provider_before) / len(deploys)
        detail = f"p99 of {len(own)}; p50 {median(own):.0f} ms; CPU {mine:.0f} ms a deploy, the stand-in's {theirs:.0f}"
        seen = ", ".join(f"{number} at {count}" for count, number in watches.items())
        return [
            Row("k8s: own share, 50 in flight", p99(own), 300, "ms", detail, own, _phases(deploys, figures)),
            Row("k8s: watches opened by load", max(watches.values()) - min(watches.values()), 0, "", seen),
            Row("k8s: memory, 50 in flight", peak(self._pid), 220, "MB", "the most that was ever resident"),
        ]

    async def committed(self, count: int) -> list[list[str]]:
        """New repositories for that many askers, each of whom asks for some deploys one after the other."""
        return [[await self._committed(MANY) for _ in range(self._size.laps)] for _ in range(count)]

    async def under_way(self, names: list[list[str]]) -> list[Deploy]:
        """The deploys of askers who begin spread over the time that a build takes."""
        pauses = [MANY_SECONDS * number / len(names) for number in range(len(names))]
        laps = await asyncio.gather(*(self._after(pause, lap) for pause, lap in zip(pauses, names, strict=True)))
        return [deploy for lap in laps for deploy in lap]

    async def own_shares(self, count: int) -> tuple[float, ...]:
        """Milliseconds of each of that many deploys at once."""
        deploys = await self.under_way(await self.committed(count))
        figures = await self._settled()
        return tuple(one.unled(figures) for one in deploys)

    async def first_deploy(self) -> Deploy:
        """One deploy of a new repository."""
        name = await self._committed()
        await self._settled()
        return await self._deploy(name)

    async def figures(self) -> Figures:
        """What the stand-in has seen by now."""
        return await self._settled()

    # ---------------------------------------------------------------------------- parts

    @property
    def _pid(self) -> int:
        return int(self._world.provider.pid or 0)

    async def _figures(self) -> Figures:
        return dict((await self._http.get(self._url)).json())

    async def _settled(self) -> Figures:
        await asyncio.sleep(SETTLE_SECONDS)
        return await self._figures()

    async def _committed(self, kind: str = "one") -> str:
        """The name of a new repository with one commit."""
        name = f"{kind}-{next(self._numbers)}"
        self._shas[name] = await self._world.commit(name)
        return name

    async def _after(self, pause: float, names: list[str]) -> list[Deploy]:
        await asyncio.sleep(pause)
        return [await self._deploy(name) for name in names]

    async def _deploy(self, name: str, *, built: bool = True) -> Deploy:
        began = time.monotonic()
        done = await self._world.deploy(name, self._shas[name])
        ended = time.monotonic()
        assert done.built is built
        return Deploy(name, str(done.job_name), began, ended, done.timings)

    async def _present_deploy(self) -> Deploy:
        slug = f"present-{next(self._numbers)}"
        began, before = time.monotonic(), self._present.requests
        job = await self._present.deploy(slug, f"{slug}.{DOMAIN}")
        ended = time.monotonic()
        return Deploy(slug, job, began, ended, {"requests": self._present.requests - before})


def _own_rows(ours: list[Deploy], present: list[Deploy], figures: Figures) -> list[Row]:
    own = tuple(one.own(figures) for one in ours)
    # Of the model, the time is taken off, too, that the Job's own verdict needs: it knows no better than to wait.
    theirs = [one.unled(figures, "verdict") for one in present]
    requests = [one.phases["requests"] for one in present]
    whole = median([one.ended - one.began for one in present])
    from_container = median([one.unled(figures) for one in present])
    detail = (
        f"{median(theirs):.0f} ms of its own after the Job's verdict ({from_container:.0f} after its container),"
        f" {whole:.1f} s in all, {median(requests):.0f} requests"
    )
    ratio = median(theirs) / median(own)
    unled = median([one.unled(figures) for one in ours])
    shown = f"p50 of {len(own)}; p99 {p99(own):.0f} ms; {unled:.0f} with the ingress's lag"
    return [
        Row("k8s: own share, 1 in flight", median(own), 60, "ms", shown, own, _phases(ours, figures)),
        Row("k8s: the present provider's / ours", ratio, 30, "ratio", detail, tuple(theirs), at_least=True),
    ]


def _stand_in_rows(ours: list[Deploy], spent: list[Figures], figures: Figures) -> list[Row]:
    """What of the own share is the stand-in's, by its own counters: a real cluster's would be another."""
    answers = tuple(1000 * one["answering"] for one in spent)
    number = median([sum(one["requests"].values()) for one in spent])
    answered = f"p50 a deploy, of {number:.0f} requests; its CPU {1000 * median([one['cpu'] for one in spent]):.0f} ms"
    led = tuple(one.not_led(figures) for one in ours)
    late = "p50 from the complete rollout until the ingress leads there"
    return [
        Row("k8s:   in it, the API's answers", median(answers), None, "ms", answered, answers),
        Row("k8s:   beside it, the ingress's lag", median(led), None, "ms", late, led),
    ]


def _request_row(what: str, target: int, spent: list[Figures], more: str = "") -> Row:
    most = max(spent, key=lambda one: sum(one["requests"].values()))
    counts = tuple(float(sum(one["requests"].values())) for one in spent)
    detail = f"most of {len(spent)}; p50 {median(counts):.0f}{more}"
    parts = {name: float(count) for name, count in most["requests"].items()}
    return Row(f"k8s: API requests, {what}", max(counts), target, "", detail, counts, parts)


def _connection_row(spent: list[Figures]) -> Row:
    counts = tuple(float(one["connections"]) for one in spent)
    detail = f"p50 of {len(spent)} deploys one by one; most {max(counts):.0f}"
    return Row("k8s: new TLS connections a deploy", median(counts), 0, "", detail, counts)


def _difference(before: Figures, after: Figures) -> Figures:
    """What was asked in between, but for watches, which are made again now and then."""
    requests = {
        name: count - before["requests"].get(name, 0)
        for name, count in after["requests"].items()
        if count != before["requests"].get(name, 0) and not name.startswith("watch ")
    }
    return {"requests": requests} | {name: after[name] - before[name] for name in ("connections", "answering", "cpu")}


def _phases(deploys: list[Deploy], figures: Figures) -> dict[str, float]:
    runs = [one.own_phases(figures) for one in deploys]
    return {name: median([run[name] for run in runs]) for name in runs[0]}
