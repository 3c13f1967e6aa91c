"""Server-side apply of a preview's objects, fenced, and what each apply did."""

from __future__ import annotations

import asyncio
from enum import Enum, StrEnum
from functools import partial
from typing import Any

from provider import names
from provider.errors import PreviewError
from provider.models import Revision
from provider.platforms.kubernetes import objects, takeover
from provider.platforms.kubernetes.api import Api, Deletion, Object
from provider.platforms.kubernetes.beside import Beside
from provider.platforms.kubernetes.fence import ABSENT, FENCED, GENERATION, TRIES, Anchors, Fence
from provider.platforms.kubernetes.ingress import hosts_of
from provider.platforms.kubernetes.refusals import Refused, not_taken, refused
from provider.platforms.kubernetes.resources import CONFIG_MAPS, DEPLOYMENTS, INGRESSES, SERVICES, Resource
from provider.platforms.kubernetes.watches import Watches
from provider.settings import Settings

OPTIONAL = (CONFIG_MAPS, INGRESSES)
"""Kinds of which a preview has more objects in one generation than in another."""
HOST_SECONDS = 0.5
"""Until an ingress's webhook may know that a host is free: it reads a cache of its own."""


class Outcome(StrEnum):
    """What an apply did to an object, as kubectl says it."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


class Part(Enum):
    """Of a preview's objects: what runs the app, and what leads its URL there as the revision says."""

    ALL = objects.ORDER
    APP = tuple(one for one in objects.ORDER if one not in objects.TRAFFIC)
    TRAFFIC = objects.TRAFFIC


class Applier:
    """Applies revisions.

    Args:
        anchors: asked whether a fence still holds when an apply finds another version.
    """

    def __init__(self, *, api: Api, watches: Watches, anchors: Anchors, settings: Settings) -> None:
        self._api = api
        self._watches = watches
        self._anchors = anchors
        self._settings = settings
        self._beside = Beside()

    async def close(self) -> None:
        """Finish what was cut short."""
        await self._beside.close()

    async def dry_run(self, wanted: list[tuple[Resource, Object]]) -> None:
        """Ask the API server whether it would take every object but those that are to be taken over.

        Raises:
            Permanent: `unsupported_feature`, `quota_exceeded`, `policy_denied`, or the cluster's own words.
        """
        # gather() would leave the others running when one raises.
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._would_take(resource, body))
                for resource, body in wanted
                if not self._is_theirs(resource, body) and not self._moves_a_host(resource, body)
            ]
        for error in (one.result() for one in asked):
            if error is not None:
                raise error

    async def apply(self, fence: Fence, revision: Revision, part: Part = Part.ALL, *, anew: bool = True) -> list[str]:
        """Apply the objects of the revision; with the traffic, remove what an earlier one had beside them.

        Returns a line for each, `deployment/my-app configured`.

        Args:
            fence: the right to do so.
            revision: what is applied.
            part: which of them.
            anew: begin anew where an earlier deploy of just this left no pod that is available.
        """
        wanted = objects.objects(revision, self._settings)
        noted = [(one, objects.noted(body, revision) if one is DEPLOYMENTS else body) for one, body in wanted]
        kept = {(resource.kind, body["metadata"]["name"]) for resource, body in wanted}
        kept.add(("ConfigMap", fence.anchor["metadata"]["name"]))
        traffic = INGRESSES in part.value
        # First, since another Ingress may get a host of theirs: webhooks of ingresses refuse one that two have.
        gone = await self._prune(fence, INGRESSES, kept) if traffic else []
        lines = [await self._apply(fence, resource, body, anew) for resource, body in noted if resource in part.value]
        gone += [line for resource in FENCED for line in await self._prune(fence, resource, kept)] if traffic else []
        return lines + gone

    def has_applied(self, revision: Revision, part: Part) -> bool:
        """Whether the watches show these objects of the revision, at its generation."""
        mark, wanted = objects.mark_of(revision), objects.objects(revision, self._settings)
        seen = [self._watches.of(one).get(body["metadata"]["name"]) for one, body in wanted if one in part.value]
        return all(objects.is_applied(found, mark, revision.generation) for found in seen)

    def _is_theirs(self, resource: Resource, body: Object) -> bool:
        """Another client's object: until it is taken over, what that set would be merged with what we set."""
        present = self._watches.of(resource).get(body["metadata"]["name"])
        return present is not None and not takeover.is_ours(present)

    def _moves_a_host(self, resource: Resource, body: Object) -> bool:
        """An Ingress with a host that another one of the preview's still has; an ingress's webhook refuses that."""
        if resource is not INGRESSES:
            return False
        name, slug = body["metadata"]["name"], body["metadata"]["labels"]["app"]
        others = [one for one in self._watches.ingresses.of(slug) if one["metadata"]["name"] != name]
        return any(set(hosts_of(body)) & set(hosts_of(one)) for one in others)

    async def _would_take(self, resource: Resource, body: Object) -> PreviewError | None:
        try:
            await self._api.apply(resource, body, dry_run=True)
        except Refused as error:
            return not_taken(error, _title(body))
        except PreviewError as error:
            return error
        return None

    async def _apply(self, fence: Fence, resource: Resource, body: Object, anew: bool) -> str:
        name = body["metadata"]["name"]
        before = self._watches.of(resource).get(name)
        version = fence.version(resource, name)
        if before is not None and resource is SERVICES:
            body = objects.over_present(body, before)
        if before is not None and not takeover.is_ours(before):
            version = await takeover.take_over(self._api, resource, name) or ABSENT
            await self._anchors.check(fence)
        if anew and resource is DEPLOYMENTS and before is not None and _is_stuck(before, body, fence.generation):
            await self.remove(fence, resource, name)
            before, version = None, ABSENT
        for left in reversed(range(TRIES)):
            wanted = objects.owned(body, fence.owner, fence.generation, version)
            extra = resource in OPTIONAL and name != fence.slug
            try:
                after = await (self._add(fence, resource, wanted) if extra else self._api.apply(resource, wanted))
            except Refused as error:
                if left and resource is INGRESSES and _is_own_host(error, fence.slug):
                    await asyncio.sleep(HOST_SECONDS)
                    continue
                if error.code != 409:
                    raise not_taken(error, _title(body)) from error
                version = await self._present_version(resource, name)
                await self._anchors.check(fence)  # after the version was read: see `fence`
                continue
            after = self._watches.of(resource).applied(after)
            fence.versions[resource.kind, name] = after["metadata"]["resourceVersion"]
            return f"{_title(body)} {_outcome(before, after)}"
        raise refused(Refused(409, "Conflict", "it changes all the time"), _title(body))

    async def _present_version(self, resource: Resource, name: str) -> str:
        present = await self._api.get(resource, name)
        if present is None:
            return ABSENT
        if not takeover.is_ours(present):
            return await takeover.take_over(self._api, resource, name) or ABSENT
        return str(present["metadata"]["resourceVersion"])

    async def _prune(self, fence: Fence, resource: Resource, kept: set[tuple[str, str]]) -> list[str]:
        removed = []
        for kind, name in list(fence.versions):
            if kind != resource.kind or (kind, name) in kept:
                continue
            present = self._watches.of(resource).get(name)
            if present is None or not takeover.is_ours(present):
                continue
            if await self.remove(fence, resource, name):
                removed.append(f"{kind.lower()}/{name} deleted")
        return removed

    async def remove(self, fence: Fence, resource: Resource, name: str) -> bool:
        """Delete an object under the fence; False if there is none any more."""
        version = fence.version(resource, name)
        for _ in range(TRIES):
            deletion = await self._api.delete(resource, name, version=version)
            if deletion is not Deletion.CHANGED:
                fence.versions.pop((resource.kind, name), None)
                return deletion is Deletion.DONE
            present = await self._api.get(resource, name)
            if present is None:
                return False
            version = str(present["metadata"]["resourceVersion"])  # a controller writes a status now and then
            await self._anchors.check(fence)
        raise refused(Refused(409, "Conflict", "it changes all the time"), f"{resource.kind.lower()}/{name}")

    async def _add(self, fence: Fence, resource: Resource, wanted: Object) -> Object:
        """Make what a newer generation may do without: no conflict would tell then that we lost the preview."""
        unmake = partial(self._unmake, resource)
        made = await self._beside.whole(self._api.apply(resource, wanted), unmake, "extra object")
        try:
            await self._anchors.check(fence)
        except BaseException:
            self._beside.start(unmake(made), "extra object")
            raise
        return made

    async def _unmake(self, resource: Resource, made: Object) -> None:
        metadata = made["metadata"]
        await self._api.delete(resource, metadata["name"], uid=metadata["uid"], version=metadata["resourceVersion"])


def _is_own_host(error: Refused, slug: str) -> bool:
    """Whether ingress-nginx's webhook still believes that another Ingress of the preview has a host."""
    own = (slug, names.alias_ingress(slug))
    return "already defined in ingress" in error.message and error.message.rpartition("/")[2].strip() in own


def _is_stuck(present: Object, wanted: Object, generation: int) -> bool:
    """Whether an earlier deploy of just this left no pod that is available: it would be judged by what is past."""
    notes = present["metadata"].get("annotations") or {}
    same = notes.get(objects.CHECKSUM) == wanted["metadata"]["annotations"][objects.CHECKSUM]
    earlier = int(notes.get(GENERATION) or 0) < generation
    return same and earlier and not present.get("status", {}).get("availableReplicas")


def _outcome(before: Object | None, after: Object) -> Outcome:
    """Whether an apply changed what the object says; its version changes with every generation."""
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if _content(before) == _content(after) else Outcome.CONFIGURED


def _content(found: Object) -> list[Any]:
    notes = found["metadata"].get("annotations") or {}
    return [found.get("spec"), found.get("data"), found["metadata"].get("labels"), notes.get(objects.CHECKSUM)]


def _title(body: Object) -> str:
    return f"{body['kind'].lower()}/{body['metadata']['name']}"
