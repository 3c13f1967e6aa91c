"""Removing a preview: its anchor first, then by name what stood there."""

from __future__ import annotations

from provider import names, render
from provider.models import Bundle, Revision
from provider.platforms.base import Removed
from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api, Deletion, Object
from provider.platforms.kubernetes.builds import Builds
from provider.platforms.kubernetes.fence import FENCED, GENERATION, TRIES, Anchors
from provider.platforms.kubernetes.refusals import Refused, refused
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.secrets import SecretObjects
from provider.platforms.kubernetes.watches import Watches, annotation, label

PLATFORM = render.PREFIX + "platform-id"
NAMED = (resources.INGRESSES, resources.SERVICES, resources.DEPLOYMENTS)
"""What the contract's `deleted` names, in its order; other kinds are `also_deleted`."""


class Removal:
    """Takes previews away.

    Once the anchor is gone, whatever a deploy that lost still makes below it is collected as it comes, and so is
    everything that is not deleted by name here: a request that comes too late finds nothing to do.
    """

    def __init__(
        self, *, api: Api, watches: Watches, anchors: Anchors, secrets: SecretObjects, builds: Builds, platform_id: str
    ) -> None:
        self._api = api
        self._watches = watches
        self._anchors = anchors
        self._secrets = secrets
        self._builds = builds
        self._platform_label = render.label_value(platform_id)

    async def teardown(self, slug: str, up_to: int | None) -> Removed:
        """Everything of the preview, of generations up to `up_to` (None: of all). Also what another client made."""
        # Before the anchor goes: from then on the cluster removes them itself, and may be faster than we look.
        present, bundles = self._present(slug), self._secrets.bundles(slug, up_to=up_to)
        anchor = await self._anchors.drop(slug, up_to=up_to)
        if not anchor and up_to is not None and self._anchors.generation(slug) > up_to:
            return Removed()  # a deploy that was accepted later has the preview
        for resource, found in present:
            if anchor and resource is resources.CONFIG_MAPS and found["metadata"]["name"] == names.anchor(slug):
                continue  # gone already
            await self._delete(resource, found, up_to)
        await self._secrets.remove_bundles(slug, up_to=up_to)
        jobs = await self._builds.remove_all(slug, up_to)
        titles = [_title(found) for resource in NAMED for kind, found in present if kind is resource]
        named = [title for title in titles if title.partition("/")[2] == slug]
        others = [_title(found) for _, found in present if _title(found) not in named]
        return Removed(named + [f"secret/{name}" for name in bundles], others + [f"job/{name}" for name in jobs])

    async def retire(self, slug: str, keep: tuple[Revision, ...], up_to: int) -> None:
        """Bundles that no kept revision needs; the anchor, too, where nothing is kept."""
        needed = [revision.bundle for revision in keep if revision.bundle is not None]
        await self._secrets.remove_bundles(slug, keep=_names(needed), up_to=up_to)
        if not keep:  # asked of the cluster: a watch may not show yet what a deploy made last
            await self._anchors.drop(slug, up_to=up_to)

    async def _delete(self, resource: Resource, found: Object, up_to: int | None) -> None:
        """Delete that very object, unless a deploy that was accepted later has applied it meanwhile."""
        name, uid = found["metadata"]["name"], found["metadata"]["uid"]
        for _ in range(TRIES):
            if up_to is not None and int(annotation(found, GENERATION) or 0) > up_to:
                return
            version = found["metadata"]["resourceVersion"]
            if await self._api.delete(resource, name, uid=uid, version=version) is not Deletion.CHANGED:
                return
            live = await self._api.get(resource, name)
            if live is None or live["metadata"]["uid"] != uid:
                return
            found = live
        raise refused(Refused(409, "Conflict", "it changes all the time"), _title(found))

    def _present(self, slug: str) -> list[tuple[Resource, Object]]:
        return [
            (resource, found)
            for resource in FENCED
            for found in self._watches.of(resource).of(slug)
            if label(found, PLATFORM) == self._platform_label or _is_the_present_providers(resource, found, slug)
        ]


def _is_the_present_providers(resource: Resource, found: Object, slug: str) -> bool:
    """It labels nothing, makes no policies, and gives everything the slug's very name."""
    unlabelled = not label(found, PLATFORM) and resource is not resources.NETWORK_POLICIES
    return unlabelled and found["metadata"]["name"] == slug


def _names(bundles: list[Bundle]) -> frozenset[str]:
    return frozenset(bundle.name for bundle in bundles)


def _title(found: Object) -> str:
    return f"{found['kind'].lower()}/{found['metadata']['name']}"
