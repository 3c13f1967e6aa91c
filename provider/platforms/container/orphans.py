"""What this installation made on this machine, and no record needs any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

from provider.platforms import notes
from provider.platforms.container import workload
from provider.platforms.container.builds import Builds
from provider.platforms.container.engine import Engine
from provider.platforms.container.ingress import Ingress, Route
from provider.platforms.container.probes import Liveness
from provider.platforms.container.runtime import Runtime
from provider.platforms.container.secrets import SecretFiles
from provider.platforms.needs import Adoptable, Known, Needed, Orphan


class Orphans:
    """Finds them: containers and networks by their labels, the rest in the provider's own folder."""

    def __init__(
        self,
        *,
        engine: Engine,
        runtime: Runtime,
        ingress: Ingress,
        liveness: Liveness,
        secrets: SecretFiles,
        builds: Builds,
        platform_id: str,
    ) -> None:
        self._engine = engine
        self._runtime = runtime
        self._ingress = ingress
        self._liveness = liveness
        self._secrets = secrets
        self._builds = builds
        self._labels = {workload.PLATFORM_LABEL: platform_id}

    async def find(self, known: Known) -> tuple[list[Orphan], Needed]:
        """All of them, and what they were compared with: that is asked after the machine was looked at."""
        containers, networks, routes = await asyncio.gather(
            self._engine.containers(**self._labels),
            self._engine.labelled_networks(**self._labels),
            self._ingress.routes(),
        )
        bundles, staged, builds = self._secrets.bundles(), self._secrets.staged(), self._builds.present()
        needed = await known()
        wanted = {self._builds.folder_of(*one).name for one in needed.builds}
        orphans = [
            *(self._route(one, containers) for one in routes if needed.is_gone(one.slug)),
            *self._containers(containers, needed),
            *(self._network(*one) for one in networks if needed.is_gone(one[1])),
            *self._bundles(bundles, needed),
            *(Orphan(f"staged/{one}", "", "", partial(self._drop_staged, one)) for one in staged - needed.staged),
            *(Orphan(f"build/{one}", "", "", partial(self._builds.discard, one)) for one in builds - wanted),
        ]
        return orphans, needed

    def _route(self, route: Route, containers: list[dict[str, Any]]) -> Orphan:
        name, unroute = f"ingress/{route.slug}", partial(self._unroute, route.slug)
        return Orphan(name, str(route.generation), route.slug, unroute, _adoptable(route, containers))

    async def _unroute(self, slug: str) -> None:
        self._liveness.forget(slug)
        await self._ingress.remove(slug)

    def _containers(self, found: list[dict[str, Any]], needed: Needed) -> Iterator[Orphan]:
        for one in found:
            slug, name = str(one["Labels"][workload.SLUG_LABEL]), str(one["Names"][0]).lstrip("/")
            if needed.is_past(slug, int(one["Labels"][workload.GENERATION_LABEL])):
                yield Orphan(f"container/{name}", str(one["Id"]), slug, partial(self._runtime.remove, name))

    def _network(self, name: str, slug: str) -> Orphan:
        return Orphan(f"network/{name}", "", slug, partial(self._engine.remove_network, name))

    def _bundles(self, found: list[tuple[str, str, int]], needed: Needed) -> Iterator[Orphan]:
        for name, slug, generation in found:
            kept = needed.previews.get(slug)
            if needed.is_past(slug, generation) and (kept is None or name not in kept.bundles):
                yield Orphan(f"secret/{name}", "", slug, partial(self._drop_bundle, name))

    async def _drop_bundle(self, name: str) -> None:
        self._secrets.drop_bundle(name)

    async def _drop_staged(self, name: str) -> None:
        self._secrets.drop(name)


def _adoptable(route: Route, containers: list[dict[str, Any]]) -> Adoptable | None:
    """What the route leads to, as its container's label says."""
    labels = [one["Labels"] for one in containers if one["Labels"][workload.SLUG_LABEL] == route.slug]
    generations = {int(one[workload.GENERATION_LABEL]): one for one in labels}
    revision = notes.read(generations.get(route.generation, {}).get(notes.NOTE, ""))
    return Adoptable(revision, max(generations)) if revision is not None else None
