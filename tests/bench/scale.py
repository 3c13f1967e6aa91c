"""Many previews at rest, many deploys under way: what they cost, and how soon another provider goes on with them.

The previews at rest are copies of one that was really deployed: its record and its objects under other names, put
into the store and the cluster by the provider's own code, since a thousand real deploys would take minutes.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
from nats.js.errors import NotFoundError

from provider.demo.processes import Server
from provider.keeper.keeper import LATER
from provider.models import PreviewRecord, Revision
from provider.platforms.kubernetes.platform import KubernetesPlatform
from provider.settings import Settings
from provider.store import open_store
from tests.bench.cluster_process import MANY, MANY_SECONDS
from tests.bench.process import cpu, peak, resident, start_to_ready
from tests.bench.report import Row
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually

AT_REST, IN_FLIGHT = 1000, 200
QUIET_SECONDS = 20.0
SEEDERS = 16
MODEL = "at-rest"


class ScaleBench:
    """Measures one provider process with all that beside it; the numbers are those of the issue, or fewer."""

    def __init__(
        self, world: ClusterWorld, figures: str, *, at_rest: int = AT_REST, in_flight: int = IN_FLIGHT
    ) -> None:
        self._world = world
        self._figures = figures
        self._at_rest = at_rest
        self._in_flight = in_flight

    async def rows(self) -> list[Row]:
        """Everything, in this order: what is at rest stays there while deploys are under way."""
        await self._world.deploy(MODEL)
        watches = await self._watches()
        await self._world.provider.stop()
        await self._seed()
        return [*await self._quiet(watches), *await self._busy(watches)]

    async def _seed(self) -> None:
        """Make the previews at rest."""
        settings = _settings(self._world)
        store = await open_store(
            self._world.client.nats, self._world.client.subjects.bucket_prefix, settings.platform_id
        )
        model, git = await store.get_preview(MODEL), self._world.git.root / "acme"
        assert model is not None
        async with httpx.AsyncClient(trust_env=False) as http:
            platform = await KubernetesPlatform.connect(settings=settings, http=http)
            platform.renew(await store.next_order("bench"))
            await platform.start(_nothing())
            try:
                names = [f"{MODEL}-{number}" for number in range(self._at_rest)]
                for name in names:  # each of a repository of its own, whose branches are listed now and then
                    (git / f"{name}.git").symlink_to(git / f"{MODEL}.git")
                slugs = iter(names)
                await asyncio.gather(*(_copies(store, platform, model, slugs) for _ in range(SEEDERS)))
            finally:
                await platform.close()

    async def _quiet(self, watches: int) -> list[Row]:
        """At rest: start, state, CPU and watches."""
        provider = self._world.provider
        seconds = await start_to_ready(provider, self._world.client)
        await asyncio.sleep(LATER + QUIET_SECONDS / 2)  # it looks at everything once, and sweeps for the first time
        before = cpu(_pid(provider))
        await asyncio.sleep(QUIET_SECONDS)
        share = 100 * (cpu(_pid(provider)) - before) / QUIET_SECONDS
        state = sum([(await self._stream(name)).bytes for name in ("previews", "deploys")]) / 1e6
        detail = (
            f"{self._at_rest} previews; started in {seconds:.1f} s; {sum(resident(_pid(provider)).values()):.0f} MB"
        )
        return [
            Row("scale: CPU at rest", share, 2.0, "%", detail),
            Row("scale: state of the previews", state, 20.0, "MB", "both buckets, as the server counts them"),
            Row("scale: watches opened by them", await self._watches() - watches, 0, ""),
        ]

    async def _busy(self, watches: int) -> list[Row]:
        """With deploys under way: memory, writes, and another provider that goes on with all of them."""
        writes = await self._writes()
        began = time.monotonic()
        names = [f"{MANY}-scale-{number}" for number in range(self._in_flight)]
        shas = [await self._world.commit(name) for name in names]
        deploys = [asyncio.create_task(self._world.deploy(name, sha)) for name, sha in zip(names, shas, strict=True)]

        async def all_there() -> bool:
            return len(await self._unfinished()) == self._in_flight

        await eventually(all_there, timeout=120, what="all deploys are under way")
        memory, more = peak(_pid(self._world.provider)), await self._watches() - watches
        async with self._world.second_provider() as second:
            await self._world.provider.kill()
            killed = time.monotonic()

            async def resumed() -> bool:
                return second.log.read_text().count('"deploy.resumed"') >= len(still)

            still = await self._unfinished()
            await eventually(resumed, timeout=60, what="all are resumed")
            took = time.monotonic() - killed
            done = await asyncio.gather(*deploys)
            assert len(done) == self._in_flight
            beats = 2 * (time.monotonic() - began) / (_settings(self._world).lease_seconds / 3)
            spent = (await self._writes() - writes - beats) / self._in_flight
            memory = max(memory, peak(_pid(second)))
            more = max(more, await self._watches() - watches)
            await self._world.provider.start()
        detail = f"{self._in_flight} deploys with builds of {MANY_SECONDS:g} s, {self._at_rest} previews beside them"
        return [
            Row("scale: memory, deploys under way", memory, 300, "MB", f"the most that was ever resident; {detail}"),
            Row("scale: watches opened by load", more, 0, ""),
            Row("scale: resumed after SIGKILL", took, 20, "s", f"{len(still)} deploys, by another provider; lease 9 s"),
            Row("scale: KV writes a deploy", spent, 25, "", "taking over included, heartbeats taken off"),
        ]

    # ---------------------------------------------------------------------------- parts

    async def _unfinished(self) -> list[str]:
        store = await open_store(
            self._world.client.nats, self._world.client.subjects.bucket_prefix, _settings(self._world).platform_id
        )
        return [one.deploy_id for one in await store.unfinished_deploys() if one.report is None]

    async def _watches(self) -> int:
        async with httpx.AsyncClient(trust_env=False) as http:
            return int((await http.get(self._figures)).json()["watches"])

    async def _writes(self) -> int:
        return sum([(await self._stream(name)).last_seq for name in ("previews", "deploys")])

    async def _stream(self, bucket: str) -> Any:
        name = f"KV_{self._world.client.subjects.bucket_prefix}_{bucket}"
        try:
            return (await self._world.client.nats.jetstream().stream_info(name)).state
        except NotFoundError:
            raise AssertionError(f"no bucket {name}") from None


async def _copies(store: Any, platform: KubernetesPlatform, model: PreviewRecord, slugs: Iterable[str]) -> None:
    for slug in slugs:
        copy = _renamed(model, slug)
        assert copy.last_good is not None
        anchor = await platform.anchor(slug, copy.generation)
        await platform.deploy(slug, copy.last_good, lambda _: None)
        record = copy.model_copy(update={"anchor_id": anchor})
        await store.change_preview(slug, lambda _, record=record: record)


async def _nothing() -> AsyncIterator[tuple[str, Revision]]:
    """What a platform that only seeds has to bring up."""
    nothing: tuple[tuple[str, Revision], ...] = ()
    for one in nothing:
        yield one


def _renamed(model: PreviewRecord, slug: str) -> PreviewRecord:
    """The record of another preview that is just the same; what an image is called stays, for it is there."""
    text = re.sub(rf"(?<!previews/){MODEL}\b", slug, model.model_dump_json())
    return PreviewRecord.model_validate(json.loads(text))


def _settings(world: ClusterWorld) -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in world.settings.items()})


def _pid(server: Server) -> int:
    return int(server.pid or 0)
