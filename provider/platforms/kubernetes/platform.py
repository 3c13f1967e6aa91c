"""A Kubernetes cluster as a platform: Kaniko Jobs, fenced applies, shared watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx
import structlog

from provider import render
from provider.errors import PreviewError
from provider.models import Bundle, Revision, SecretValues
from provider.platforms import hosts
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
from provider.platforms.kubernetes import access, takeover
from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.apply import Applier, Part
from provider.platforms.kubernetes.builds import Builds
from provider.platforms.kubernetes.cache import Restarted
from provider.platforms.kubernetes.drift import Comparison
from provider.platforms.kubernetes.fence import FENCED, Anchors, Fence, fenced
from provider.platforms.kubernetes.ingress import hosts_of
from provider.platforms.kubernetes.inspector import KubernetesInspector
from provider.platforms.kubernetes.objects import is_marked, mark_of, objects
from provider.platforms.kubernetes.orphans import Orphans
from provider.platforms.kubernetes.removal import Removal
from provider.platforms.kubernetes.resources import INGRESSES, SECRETS
from provider.platforms.kubernetes.rollout import Rollouts
from provider.platforms.kubernetes.secrets import SecretObjects
from provider.platforms.kubernetes.watches import Watches, name_of
from provider.platforms.needs import Known, Orphan
from provider.platforms.old_images import OldImages
from provider.platforms.registry import Registry
from provider.settings import Settings

log = structlog.get_logger(__name__)

SHAPES_KEPT = 256


class KubernetesPlatform:
    """Fulfils `platforms.base.Platform` on a cluster, within two namespaces."""

    def __init__(
        self, *, settings: Settings, http: httpx.AsyncClient, api: Api, restarted: Restarted | None = None
    ) -> None:
        self._settings = settings
        self._api = api
        self._watches = Watches(api, restarted)
        watches, platform_id = self._watches, settings.platform_id
        anchors = self._anchors = Anchors(api=api, watches=watches, platform_id=platform_id)
        self._applier = Applier(api=api, watches=watches, anchors=anchors, settings=settings)
        self._secrets = SecretObjects(api=api, watches=watches, anchors=anchors, platform_id=platform_id)
        self._registry = Registry(settings=settings, http=http)
        self._builds = Builds(api=api, watches=watches, settings=settings, has_image=self._registry.has)
        self._comparison = Comparison(api=api, watches=watches, settings=settings)
        self._rollouts = Rollouts(api=api, watches=watches, settings=settings)
        self._removal = Removal(
            api=api, watches=watches, anchors=anchors, secrets=self._secrets, builds=self._builds,
            platform_id=platform_id,
        )  # fmt: skip
        self.inspector = KubernetesInspector(api=api, watches=watches, platform_id=platform_id)
        self._orphans = Orphans(api=api, watches=watches, anchors=anchors, platform_id=platform_id)
        self._images = OldImages(registry=self._registry, settings=settings)
        self._fences: dict[str, Fence] = {}
        self._taken_shapes: dict[str, None] = {}
        self._ca: str | None = None

    @classmethod
    async def connect(
        cls, *, settings: Settings, http: httpx.AsyncClient, restarted: Restarted | None = None
    ) -> KubernetesPlatform:
        """The platform on the cluster that the settings or the environment name."""
        return cls(settings=settings, http=http, api=await Api.connect(settings), restarted=restarted)

    @property
    def exclusive(self) -> bool:
        """Any number of providers share a cluster."""
        return False

    def renew(self, epoch: int) -> None:
        """See `Platform`."""
        self._anchors.renew(epoch)

    async def start(self, serving: AsyncIterator[tuple[str, Revision]]) -> None:
        """Begin to watch. What serves is the cluster's to keep up."""
        await self._watches.start()

    async def close(self) -> None:
        """Stop watching; Jobs and previews run on."""
        await self._builds.close()
        await self._applier.close()
        await self._watches.close()
        await self._api.close()

    async def parts(self) -> list[PartStatus]:
        """The API server and the registry."""
        return list(await asyncio.gather(access.api_part(self._api), self._registry.part()))

    async def permissions(self) -> list[PartStatus]:
        """See `Platform`."""
        return await access.permissions(self._api)

    # ------------------------------------------------------------------ secrets

    async def stage_secrets(self, staged: str, values: SecretValues) -> str:
        """See `Platform`."""
        return await self._secrets.stage(staged, values)

    async def drop_staged(self, staged: str) -> None:
        """See `Platform`."""
        await self._secrets.drop(staged)

    async def make_bundle(
        self, staged: str, slug: str, generation: int, secret_names: tuple[str, ...], reuse: tuple[Bundle, ...]
    ) -> Bundle | None:
        """See `Platform`."""
        return await self._secrets.bundle(staged, slug, generation, secret_names, reuse)

    async def secret_values(self, staged: str, bundles: tuple[Bundle, ...]) -> frozenset[str]:
        """See `Platform`."""
        return await self._secrets.values(staged, tuple(bundle.name for bundle in bundles))

    # -------------------------------------------------------------------- build

    async def build(self, plan: BuildPlan, log: LogSink) -> str:
        """See `Platform`."""
        return await self._builds.run(plan, log)

    async def stop_build(self, slug: str, build_inputs: str) -> None:
        """See `Platform`."""
        await self._builds.stop(slug, build_inputs)

    def forget_build(self, slug: str, build_inputs: str) -> None:
        """Nothing to do: the cluster removes Jobs that ended."""

    async def has_image(self, slug: str, digest: str) -> bool:
        """See `Platform`."""
        return await self._registry.has(slug, digest)

    # ---------------------------------------------------------------------- run

    async def admit(self, revision: Revision) -> list[str]:
        """A dry run of every object; what the cluster took once, in this very shape, it is not asked again."""
        self._check_others(revision)
        wanted = objects(revision, self._settings)
        shape = render.checksum([body for _, body in wanted])
        if shape not in self._taken_shapes:
            await self._applier.dry_run(wanted)
            self._taken_shapes[shape] = None
            while len(self._taken_shapes) > SHAPES_KEPT:
                self._taken_shapes.pop(next(iter(self._taken_shapes)))
        return []

    def _check_others(self, revision: Revision) -> None:
        """Refuse a slug that is another installation's, and hosts that are another preview's."""
        (ingress,) = [one for one in revision.manifests if one["kind"] == "Ingress"]
        slug = ingress["metadata"]["name"]
        self._anchors.check_ours(slug)
        others = [found for found in self._watches.ingresses.all() if name_of(found) != slug]
        taken = {host for found in others for host in hosts_of(found)}
        hosts.check(slug, hosts_of(ingress), self._settings.preview_domain, taken)

    def generation(self, slug: str) -> int:
        """See `Platform`."""
        return self._anchors.generation(slug)

    async def anchor(self, slug: str, generation: int) -> str | None:
        """See `Platform`."""
        self._fences[slug] = await self._anchors.take(slug, generation)
        return str(self._fences[slug].anchor["metadata"]["uid"])

    async def drop_anchor(self, slug: str) -> None:
        """See `Platform`."""
        if (fence := self._fences.pop(slug, None)) is not None:
            await self._anchors.undo(fence)

    async def deploy(self, slug: str, revision: Revision, log: LogSink) -> Revision:
        """See `Platform`."""
        fence = self._fences.pop(slug, None)
        if fence is None or fence.generation != revision.generation:
            raise fenced("its anchor was not taken for it")
        serves = self._watches.ingresses.get(slug) is not None
        await self._apply(fence, revision, Part.APP if serves else Part.ALL, log)
        if serves:
            self._fences[slug] = fence  # for `expose`
        return revision

    async def _apply(self, fence: Fence, revision: Revision, part: Part, log: LogSink) -> None:
        self._check_others(revision)
        try:
            log(await self._applier.apply(fence, revision, part))
            self._check_others(revision)  # two that were checked at once may both want a host
        except PreviewError:
            self._taken_shapes.clear()  # a quota or a policy is another one now
            raise

    async def rollout(self, slug: str, revision: Revision, log: LogSink) -> None:
        """See `Platform`."""
        await self._rollouts.wait(slug, revision, revision.generation)

    async def candidate(self, slug: str, revision: Revision) -> Candidate | None:
        """None: pods are not reached from here, only the ingress is. Readiness probes ask them first."""
        return None

    async def expose(self, slug: str, revision: Revision, log: LogSink) -> None:
        """The Ingress as the revision wants it, where another was served by it until now.

        The Service sends traffic to what is ready, and the rollout waited until that is alone.
        """
        fence = self._fences.pop(slug, None)
        if fence is None or fence.generation != revision.generation:
            if self._applier.has_applied(revision, Part.TRAFFIC):
                return
            fence = await self._anchors.take(slug, revision.generation)
            if fence.made:
                await self._anchors.undo(fence)
                raise fenced("its anchor is gone: the preview was torn down")
        await self._apply(fence, revision, Part.TRAFFIC, log)

    async def public_address(self) -> PublicAddress:
        """The ingress as the settings name it; endpoints that are the new revision's alone stand for its header."""
        if self._ca is None and self._settings.public_ca_file is not None:
            self._ca = self._settings.public_ca_file.read_text()
        return PublicAddress(self._settings.ingress_address or None, self._ca, commit_header=False)

    async def restore(self, slug: str, generation: int, failed: Revision | None, last_good: Revision | None) -> None:
        """Apply the last good revision's manifests again and wait for it; without one, take the URL away.

        A failed first deploy keeps its pods, so that they can be looked at, but gets no traffic.
        """
        deployment = self._watches.deployments.get(slug)
        self._fences.pop(slug, None)
        if failed is None and (last_good is None or is_marked(deployment, mark_of(last_good))):
            return
        fence = await self._anchors.take(slug, generation)
        if last_good is None:
            assert failed is not None, "checked above"
            # Also what a watch does not show yet: another provider may have applied it just now.
            applied = [body for resource, body in objects(failed, self._settings) if resource is INGRESSES]
            seen = [one for one in self._watches.ingresses.of(slug) if takeover.is_ours(one)]
            for name in {one["metadata"]["name"] for one in (*applied, *seen)}:
                await self._applier.remove(fence, INGRESSES, name)
            return
        await self._applier.apply(fence, last_good)
        await self._rollouts.wait(slug, last_good, fence.generation)

    async def hold(self, slug: str, page: str) -> None:
        """Nothing: what a host without pods answers is the ingress controller's."""

    async def hold_only(self, slugs: frozenset[str]) -> None:
        """See `hold`."""

    def on_change(self, told: Told) -> None:
        """By the watches of what is applied, and of the secrets."""
        for resource in (*FENCED, SECRETS):
            self._watches.of(resource).told = told

    async def drift(self, serving: Mapping[str, Revision]) -> dict[str, Drift]:
        """See `Platform`."""
        found = {}
        for slug, revision in serving.items():
            if (drift := await self._comparison.of(slug, revision)) is not None:
                found[slug] = drift
            await asyncio.sleep(0)  # of a thousand previews nobody else has to wait for all
        return found

    async def put_back(self, slug: str, revision: Revision, generation: int) -> str | None:
        """See `Platform`."""
        fence = await self._anchors.take(slug, generation)
        await self._applier.apply(fence, revision, anew=False)
        return str(fence.anchor["metadata"]["uid"])

    async def retire(self, slug: str, keep: tuple[Revision, ...], up_to: int) -> None:
        """See `Platform`. Old ReplicaSets are the cluster's to remove."""
        await self._removal.retire(slug, keep, up_to)

    async def teardown(self, slug: str, up_to: int | None) -> Removed:
        """See `Platform`."""
        self._fences.pop(slug, None)
        return await self._removal.teardown(slug, up_to)

    async def orphans(self, known: Known) -> list[Orphan]:
        """Objects of both namespaces, and tags of the registry."""
        found, needed = await self._orphans.find(known)
        return [*found, *await self._images.find(needed)]

    def visited(self) -> frozenset[str]:
        """Nothing: an ingress controller tells nobody whom it was asked for."""
        return frozenset()

    async def app_log(self, slug: str, revision: Revision, lines: int) -> tuple[str, ...]:
        """See `Platform`."""
        return await self._rollouts.app_log(slug, lines)
