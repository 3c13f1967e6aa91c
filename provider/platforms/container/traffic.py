"""Which container gets a preview's traffic: its route, and the liveness of what stands behind it."""

from __future__ import annotations

import asyncio

import structlog

from provider import names
from provider.errors import PreviewError
from provider.models import Revision
from provider.platforms.base import PublicAddress
from provider.platforms.container import probes, workload
from provider.platforms.container.ingress import Ingress, Route
from provider.platforms.container.probes import Liveness
from provider.platforms.container.runtime import Runtime
from provider.settings import Settings

log = structlog.get_logger(__name__)

WATCH_SECONDS = 1.0
WATCHED_SECONDS = 1.5


class Traffic:
    """Sends it to one revision, or takes it away.

    Args:
        runtime: knows the containers' addresses.
        ingress: is switched.
        liveness: restarts what has the traffic when it does not live any more.
    """

    def __init__(self, *, settings: Settings, runtime: Runtime, ingress: Ingress, liveness: Liveness) -> None:
        self._settings = settings
        self._runtime = runtime
        self._ingress = ingress
        self._liveness = liveness
        self._ca: str | None = None

    def check_hosts(self, slug: str, revision: Revision) -> None:
        """Refuse a host that is another preview's."""
        self._ingress.check_hosts(slug, _hosts(revision))

    def strip_prefix(self, revision: Revision) -> str:
        """What the ingress takes off the path; "" for nothing."""
        return _annotations(revision).get(workload.LABEL_PREFIX + "strip-path", "")

    async def send(self, slug: str, revision: Revision) -> None:
        """Replace whatever the route says now; the caller holds the preview's turn, so nobody else writes it."""
        route = await self._route(slug, revision)
        present = await self._ingress.route(slug)
        expected = present.generation if present else None
        await self._ingress.switch(route, expected_generation=expected, watched=WATCHED_SECONDS)
        address = route.upstream.rpartition(":")[0]
        prober = probes.Prober(address, self._runtime.work(revision))
        self._liveness.watch(slug, names.container(slug, revision.generation), prober)

    async def take_away(self, slug: str, up_to: int | None = None) -> bool:
        """No route leads to the preview any more; whether one did, of a generation up to `up_to` (None: of any)."""
        if up_to is not None:
            present = await self._ingress.route(slug)
            if present is None or present.generation > up_to:
                return False
        self._liveness.forget(slug)
        return await self._ingress.remove(slug)

    async def public_address(self) -> PublicAddress:
        """The ingress, trusted by its own authority unless a CA file is set."""
        if self._ca is None:
            file = self._settings.public_ca_file
            self._ca = file.read_text() if file else await self._ingress.root_ca()
        return PublicAddress(self._settings.ingress_address or None, self._ca, commit_header=True)

    async def keep_up(self) -> None:
        """Caddy tells nobody that it was restarted without its configuration, so it is asked; for ever."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if await self._ingress.ensure():
                    log.warning("ingress.restored")
                    self._ca = None
            except PreviewError as error:
                log.warning("ingress.away", error=str(error))
            except Exception:
                log.exception("ingress.watch")

    async def _route(self, slug: str, revision: Revision) -> Route:
        work = self._runtime.work(revision)
        ingress = workload.find(revision.manifests, "Ingress")["spec"]["rules"]
        return Route(
            slug=slug,
            hosts=_hosts(revision),
            upstream=f"{await self._runtime.address(slug, revision)}:{work.port}",
            commit_sha=revision.commit_sha,
            response_headers=workload.json_annotation(_annotations(revision), "response-headers"),
            strip_prefix=self.strip_prefix(revision) or None,
            path_prefix=ingress[0]["http"]["paths"][0]["path"],
            http2=work.http2,
            generation=revision.generation,
        )


def _hosts(revision: Revision) -> tuple[str, ...]:
    return tuple(rule["host"] for rule in workload.find(revision.manifests, "Ingress")["spec"]["rules"])


def _annotations(revision: Revision) -> dict[str, str]:
    return dict(workload.find(revision.manifests, "Ingress")["metadata"].get("annotations", {}))
