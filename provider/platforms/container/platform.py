"""The container engine as a platform: builder processes, containers, Caddy's routes, secret files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TextIO

import httpx
import structlog

from provider.errors import PreviewError
from provider.models import Bundle, Revision, SecretValues
from provider.platforms.base import (
    BuildPlan,
    Candidate,
    Drift,
    LogSink,
    PartStatus,
    PublicAddress,
    Removed,
    Told,
)
from provider.platforms.bundles import gone
from provider.platforms.container import machine, probes, workload
from provider.platforms.container.builds import Builds
from provider.platforms.container.engine import Engine
from provider.platforms.container.ingress import Ingress
from provider.platforms.container.inspector import ContainerInspector
from provider.platforms.container.lock import take_locks
from provider.platforms.container.orphans import Orphans
from provider.platforms.container.runtime import Runtime
from provider.platforms.container.secrets import SecretFiles
from provider.platforms.container.traffic import Traffic
from provider.platforms.container.upkeep import Upkeep
from provider.platforms.needs import Known, Orphan
from provider.platforms.old_images import OldImages
from provider.platforms.registry import Registry
from provider.settings import Settings

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 5.0
FORGET_SECONDS = 1.0


class ContainerPlatform:
    """Fulfils `platforms.base.Platform` on one machine; one provider per state folder."""

    def __init__(
        self, *, settings: Settings, http: httpx.AsyncClient, restarted: Callable[[str], None] | None = None
    ) -> None:
        self._settings = settings
        self._engine = Engine(settings.container_host, workload.SLUG_LABEL)
        self._secrets = SecretFiles(settings.state_dir / "secrets")
        self._runtime = Runtime(settings=settings, engine=self._engine, secrets=self._secrets)
        self._ingress = Ingress(settings=settings, http=http)
        self._upkeep = Upkeep(
            engine=self._engine, ingress=self._ingress, secrets=self._secrets, platform_id=settings.platform_id,
            restarted=restarted,
        )  # fmt: skip
        self._told: Told | None = None
        self._registry = Registry(settings=settings, http=http)
        self._builds = Builds(settings=settings, engine=self._engine, has_image=self._registry.has)
        self.inspector = ContainerInspector(engine=self._engine, builds=self._builds, platform_id=settings.platform_id)
        self._images = OldImages(registry=self._registry, settings=settings)
        self._liveness = probes.Liveness(self._runtime.restart)
        self._traffic = Traffic(
            settings=settings, runtime=self._runtime, ingress=self._ingress, liveness=self._liveness
        )
        self._orphans = Orphans(
            engine=self._engine,
            runtime=self._runtime,
            ingress=self._ingress,
            liveness=self._liveness,
            secrets=self._secrets,
            builds=self._builds,
            platform_id=settings.platform_id,
        )
        self._closed: dict[str, bool] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._locks: list[TextIO] = []

    @property
    def exclusive(self) -> bool:
        """`start` takes the engine's lock."""
        return True

    def renew(self, epoch: int) -> None:
        """Nothing to do: nobody else has the engine's lock."""

    async def start(self, serving: AsyncIterator[tuple[str, Revision]]) -> None:
        """Take the engine's lock, set up the ingress, start what serves."""
        self._locks = take_locks(self._settings)
        self._secrets.remove_drafts()
        self._ingress.open()
        await asyncio.to_thread(machine.keep_apart)
        await asyncio.to_thread(self._builds.sweep)
        await self._ingress.ensure()
        await asyncio.gather(*[self._bring_up(slug, revision) async for slug, revision in serving])
        self._spawn(self._traffic.keep_up())
        if self._told is not None:
            self._spawn(self._upkeep.follow_engine(self._told))
            self._spawn(self._upkeep.follow_routes(self._told))

    async def close(self) -> None:
        """Stop watching; containers and builds run on."""
        await self._liveness.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._ingress.close()
        await self._builds.close()
        await self._runtime.close()
        await self._engine.close()
        for lock in self._locks:
            lock.close()

    async def parts(self) -> list[PartStatus]:
        """The engine, what builds need on this machine, the registry, the ingress."""
        engine, registry, ingress, walls = await asyncio.gather(
            self._engine.part(), self._registry.part(), self._ingress.part(), asyncio.to_thread(machine.firewall_part)
        )
        state = machine.state_part(self._settings.state_dir)
        return [engine, machine.builder_part(), walls, registry, ingress, state]

    async def permissions(self) -> list[PartStatus]:
        """Nothing beyond `parts`: the engine's socket allows everything, or nothing."""
        return []

    # ------------------------------------------------------------------ secrets

    async def stage_secrets(self, staged: str, values: SecretValues) -> str:
        """See `Platform`."""
        return self._secrets.stage(staged, values)

    async def drop_staged(self, staged: str) -> None:
        """See `Platform`."""
        self._secrets.drop(staged)

    async def make_bundle(
        self, staged: str, slug: str, generation: int, secret_names: tuple[str, ...], reuse: tuple[Bundle, ...]
    ) -> Bundle | None:
        """See `Platform`."""
        return self._secrets.bundle(staged, slug, generation, secret_names, reuse)

    async def secret_values(self, staged: str, bundles: tuple[Bundle, ...]) -> frozenset[str]:
        """See `Platform`."""
        found = [self._secrets.staged_values(staged)]
        for bundle in bundles:
            if (values := self._secrets.values(bundle.name)) is None:
                raise gone(bundle.name)
            found.append(values)
        return frozenset(value for values in found for value in values.values())

    # -------------------------------------------------------------------- build

    async def build(self, plan: BuildPlan, log: LogSink) -> str:
        """See `Platform`. Where the image will run is made meanwhile."""
        await self._builds.begin(plan)
        if (closed := self._closed.pop(plan.slug, None)) is not None:
            self._runtime.prepare(plan.slug, closed=closed)
        return await self._builds.finish(plan, log)

    async def stop_build(self, slug: str, build_inputs: str) -> None:
        """See `Platform`."""
        await self._builds.stop(slug, build_inputs)

    def forget_build(self, slug: str, build_inputs: str) -> None:
        """Removed beside the deploy, after a moment: it has other things to do now."""
        self._spawn(self._forget(slug, build_inputs))

    async def has_image(self, slug: str, digest: str) -> bool:
        """See `Platform`."""
        return await self._registry.has(slug, digest)

    # ---------------------------------------------------------------------- run

    async def admit(self, revision: Revision) -> list[str]:
        """Name what the engine cannot enforce, and refuse a host that is another preview's."""
        work = workload.workload(revision, {})
        slug = workload.find(revision.manifests, "Deployment")["metadata"]["name"]
        self._traffic.check_hosts(slug, revision)
        self._closed[slug] = workload.is_closed(revision)
        limited = [
            volume["name"]
            for volume in work.pod.get("volumes", [])
            if volume["emptyDir"].get("sizeLimit") and volume["emptyDir"].get("medium") != "Memory"
        ]
        return [f"volume {name}: this engine does not enforce sizeLimit on emptyDir; use tmpfs" for name in limited]

    def generation(self, slug: str) -> None:
        """None: one provider has the engine, and containers of the same name are made anew."""

    async def anchor(self, slug: str, generation: int) -> str | None:
        """None: one provider has the engine (`start` takes its lock), and containers carry their generation."""
        return None

    async def drop_anchor(self, slug: str) -> None:
        """There is none."""

    async def deploy(self, slug: str, revision: Revision, log: LogSink) -> Revision:
        """See `Platform`."""
        image_id = self._builds.new_image(slug, revision.digest)
        if image_id is not None and await self._runtime.run_new(slug, revision, image_id):
            return revision
        return await self._runtime.run(slug, revision)

    async def rollout(self, slug: str, revision: Revision, log: LogSink) -> None:
        """See `Platform`."""
        await self._runtime.wait_ready(slug, revision)

    async def candidate(self, slug: str, revision: Revision) -> Candidate | None:
        """The container itself, in the preview's network."""
        work = self._runtime.work(revision)
        address = await self._runtime.address(slug, revision)
        prefix = self._traffic.strip_prefix(revision)
        return Candidate(f"http://{address}:{work.port}", prefix, http2=work.http2)

    async def expose(self, slug: str, revision: Revision, log: LogSink) -> None:
        """See `Platform`."""
        await self._traffic.send(slug, revision)

    async def public_address(self) -> PublicAddress:
        """See `Platform`."""
        return await self._traffic.public_address()

    async def restore(self, slug: str, generation: int, failed: Revision | None, last_good: Revision | None) -> None:
        """The last good container serves; the failed one is removed, or kept stopped when there is no other."""
        if last_good is None:
            await self._traffic.take_away(slug)
            if failed is not None:
                for name in await self._runtime.retire_others(slug, (failed,), failed.generation):
                    await self._runtime.remove(name)
                await self._runtime.park(slug, failed)
            return
        await self._runtime.ensure(slug, last_good)
        await self._traffic.send(slug, last_good)
        if failed is not None and failed.generation != last_good.generation:
            await self._runtime.remove_generation(slug, failed.generation)

    async def hold(self, slug: str, page: str) -> None:
        """See `Platform`."""
        await self._ingress.hold(slug, page)

    async def hold_only(self, slugs: frozenset[str]) -> None:
        """See `Platform`."""
        await self._ingress.hold_only(slugs)

    def on_change(self, told: Told) -> None:
        """By the engine's events, and looks at the routes."""
        self._told = told

    async def drift(self, serving: Mapping[str, Revision]) -> dict[str, Drift]:
        """See `Platform`."""
        return await self._upkeep.drift(serving)

    async def put_back(self, slug: str, revision: Revision, generation: int) -> str | None:
        """Its container runs in its network and has the traffic; there is no anchor."""
        await self._runtime.remove_unfit(slug, revision)
        await self._runtime.ensure(slug, revision)
        await self._traffic.send(slug, revision)
        return None

    async def retire(self, slug: str, keep: tuple[Revision, ...], up_to: int) -> None:
        """Older containers go after a while in which their last requests can end."""
        self._builds.make_ready()
        bundles = frozenset(revision.bundle.name for revision in keep if revision.bundle is not None)
        self._secrets.remove_bundles(slug, keep=bundles, up_to=up_to)
        others = await self._runtime.retire_others(slug, keep, up_to)
        if others:
            self._spawn(self._drain(others))

    async def teardown(self, slug: str, up_to: int | None) -> Removed:
        """See `Platform`."""
        route = await self._traffic.take_away(slug, up_to)
        builds = await self._builds.stop_all(slug) if up_to is None else []
        containers, networks = await self._runtime.remove_all(slug, up_to)
        bundles = self._secrets.remove_bundles(slug, up_to=up_to)
        deleted = [f"ingress/{slug}", f"service/{slug}"] if route else []
        deleted += [f"deployment/{slug}"] if containers else []
        deleted += [f"secret/{name}" for name in bundles]
        also = [f"container/{name}" for name in containers]
        also += [f"network/{name}" for name in networks]
        return Removed(deleted, also + [f"job/{name}" for name in builds])

    async def orphans(self, known: Known) -> list[Orphan]:
        """What is on this machine, and tags of the registry."""
        found, needed = await self._orphans.find(known)
        return [*found, *await self._images.find(needed)]

    def visited(self) -> frozenset[str]:
        """See `Platform`."""
        return self._ingress.visited()

    async def app_log(self, slug: str, revision: Revision, lines: int) -> tuple[str, ...]:
        """See `Platform`."""
        return await self._runtime.log(slug, revision, lines)

    # ----------------------------------------------------------------- internal

    async def _bring_up(self, slug: str, revision: Revision) -> None:
        """What serves, serves again; one that cannot must not keep the others down."""
        try:
            await self._runtime.ensure(slug, revision)
            await self._traffic.send(slug, revision)
        except PreviewError as error:
            log.error("bring_up.failed", slug=slug, error=str(error), evidence=error.evidence)
        except Exception:
            log.exception("bring_up.failed", slug=slug)

    async def _forget(self, slug: str, build_inputs: str) -> None:
        await asyncio.sleep(FORGET_SECONDS)
        await self._builds.forget(slug, build_inputs)

    async def _drain(self, containers: list[str]) -> None:
        await asyncio.sleep(DRAIN_SECONDS)
        # At once: each may take the whole grace of a stop.
        await asyncio.gather(*map(self._drop, containers))

    async def _drop(self, container: str) -> None:
        try:
            await self._runtime.remove(container)
        except PreviewError as error:
            log.warning("retire.failed", container=container, error=str(error))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
