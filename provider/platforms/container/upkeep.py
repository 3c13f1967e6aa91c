"""What serves on this machine stays up: what of it is not as it was made, and who tells that something changed.

The engine tells by its events that a container ended or went; of Caddy's files nobody tells, and of Caddy itself
neither, so these are looked at again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from provider import names
from provider.errors import PreviewError
from provider.models import Revision
from provider.platforms.base import Drift, Told
from provider.platforms.container import workload
from provider.platforms.container.engine import Engine
from provider.platforms.container.ingress import Ingress
from provider.platforms.container.secrets import SecretFiles

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
LOOK_SECONDS = 2.0
"""How often the route table is looked at."""
CRASHES, CRASH_SECONDS = 5, 30.0
"""So many ends of a container within so many seconds are a crash loop."""
FIRST_REST, LONGEST_REST, CALM_SECONDS = 10.0, 300.0, 600.0
"""How long it is left stopped, and how long it has to run well before that begins anew."""
MOST_KNOWN = 1000


class Upkeep:
    """Compares what the engine runs and the ingress routes with what revisions say.

    Args:
        restarted: told each time that the engine's events broke off and are followed anew.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        ingress: Ingress,
        secrets: SecretFiles,
        platform_id: str,
        restarted: Callable[[str], None] | None = None,
    ) -> None:
        self._engine = engine
        self._ingress = ingress
        self._secrets = secrets
        self._platform_id = platform_id
        self._restarted = restarted or (lambda _: None)
        self._routed: dict[str, int] = {}
        self._crashes = Crashes()

    async def drift(self, serving: Mapping[str, Revision]) -> dict[str, Drift]:
        """See `Platform`."""
        if not serving:
            return {}
        found, networks, routed = await asyncio.gather(
            self._engine.containers(**{workload.PLATFORM_LABEL: self._platform_id}),
            self._engine.networks(),
            self._ingress.serving(),
        )
        moment = time.monotonic()
        containers = {str(one["Names"][0]).lstrip("/"): one for one in found}
        for name in containers:
            if self._crashes.rests(name, moment):
                containers[name] = {**containers[name], "State": "running"}  # as far as anybody may do about it now
        drifts = {}
        for slug, revision in serving.items():
            what = tuple(differences(slug, revision, containers, networks, routed))
            bundle = revision.bundle
            lost = bundle.name if bundle is not None and self._secrets.values(bundle.name) is None else None
            if what or lost is not None:
                drifts[slug] = Drift(what, lost)
            if slug in routed:
                self._routed[slug] = routed[slug]
        return drifts

    async def follow_engine(self, told: Told) -> None:
        """Tell what the engine tells, for ever; after a break anything may have happened."""
        pause = FIRST_PAUSE
        while True:
            try:
                async for ending in self._engine.endings():
                    pause = FIRST_PAUSE
                    if ending.died and ending.slug is not None:
                        await self._hold_back(ending.container, ending.slug, told)
                    told(ending.slug)
            except PreviewError as error:
                log.info("engine.events", error=str(error), pause=pause)
            except Exception:
                log.exception("engine.events")
            self._restarted("engine")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _hold_back(self, container: str, slug: str, told: Told) -> None:
        """Stop a container that crashes again and again: the engine would start it at once each time, for ever."""
        rest = self._crashes.died(container, time.monotonic())
        if rest is not None:
            log.warning("crash_loop", container=container, starts_in=rest)
            await self._engine.stop(container, 0)
            asyncio.get_running_loop().call_later(rest, told, slug)

    async def follow_routes(self, told: Told) -> None:
        """Tell that a route is not as `drift` saw it last, for ever: somebody may have removed a file."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            present = await self._ingress.serving()
            for slug, generation in list(self._routed.items()):
                if present.get(slug) != generation:
                    del self._routed[slug]
                    told(slug)


class Crashes:
    """Which containers crash again and again, and how long each is left stopped: longer each time."""

    def __init__(self) -> None:
        self._deaths: dict[str, deque[float]] = {}
        self._rests: dict[str, tuple[float, float]] = {}

    def died(self, name: str, moment: float) -> float | None:
        """A container's process ended; for how many seconds it is to be left stopped, if it is."""
        deaths = self._deaths.setdefault(name, deque(maxlen=CRASHES))
        if moment > self._rests.get(name, (0.0, moment))[1] + CALM_SECONDS:
            self._rests.pop(name, None)
        deaths.append(moment)
        if len(deaths) < CRASHES or moment - deaths[0] > CRASH_SECONDS or self.rests(name, moment):
            return None
        before = self._rests.get(name, (0.0, 0.0))[0]
        rest = min(2 * before, LONGEST_REST) if before else FIRST_REST
        self._rests[name] = (rest, moment + rest)
        deaths.clear()
        while len(self._deaths) > MOST_KNOWN:
            oldest = next(iter(self._deaths))
            del self._deaths[oldest]
            self._rests.pop(oldest, None)
        return rest

    def rests(self, name: str, moment: float) -> bool:
        """Whether it is left stopped now."""
        return moment < self._rests.get(name, (0.0, 0.0))[1]


def differences(
    slug: str,
    revision: Revision,
    containers: Mapping[str, dict[str, Any]],
    networks: frozenset[str],
    routed: Mapping[str, int],
) -> list[str]:
    """What is not as it was made, in a few words each."""
    name, network = names.container(slug, revision.generation), workload.network(slug, revision)
    what = [f"network/{network} removed"] if network not in networks else []
    container = containers.get(name)
    if container is None:
        what.append(f"container/{name} removed")
    elif container["State"] != "running":
        what.append(f"container/{name} {container['State']}")
    elif network not in container["NetworkSettings"]["Networks"]:
        what.append(f"container/{name} cut from its network")
    if routed.get(slug) != revision.generation:
        what.append(f"ingress/{slug} {'lost' if slug not in routed else 'changed'}")
    return what
