"""What serves on this machine stays up: what of it is not as it was made, and who tells that something changed.

The engine tells by its events that a container ended or went; of Caddy's files nobody tells, and of Caddy itself
neither, so these are looked at again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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


class Upkeep:
    """Compares what the engine runs and the ingress routes with what revisions say."""

    def __init__(self, *, engine: Engine, ingress: Ingress, secrets: SecretFiles, platform_id: str) -> None:
        self._engine = engine
        self._ingress = ingress
        self._secrets = secrets
        self._platform_id = platform_id
        self._routed: dict[str, int] = {}

    async def drift(self, serving: Mapping[str, Revision]) -> dict[str, Drift]:
        """See `Platform`."""
        if not serving:
            return {}
        found, networks, routed = await asyncio.gather(
            self._engine.containers(**{workload.PLATFORM_LABEL: self._platform_id}),
            self._engine.networks(),
            self._ingress.serving(),
        )
        containers = {str(one["Names"][0]).lstrip("/"): one for one in found}
        drifts = {}
        for slug, revision in serving.items():
            what = tuple(_differences(slug, revision, containers, networks, routed))
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
                async for slug in self._engine.ended():
                    told(slug)
                    pause = FIRST_PAUSE
            except PreviewError as error:
                log.info("engine.events", error=str(error), pause=pause)
            except Exception:
                log.exception("engine.events")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def follow_routes(self, told: Told) -> None:
        """Tell that a route is not as `drift` saw it last, for ever: somebody may have removed a file."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            present = await self._ingress.serving()
            for slug, generation in list(self._routed.items()):
                if present.get(slug) != generation:
                    del self._routed[slug]
                    told(slug)


def _differences(
    slug: str,
    revision: Revision,
    containers: Mapping[str, dict[str, Any]],
    networks: frozenset[str],
    routed: Mapping[str, int],
) -> list[str]:
    """What is not as it was made, in a few words each."""
    name, network = names.container(slug, revision.generation), names.network(slug)
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
