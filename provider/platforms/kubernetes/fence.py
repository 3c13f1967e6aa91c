"""Fencing: whoever lost a preview can change nothing of it any more, however late it wakes up.

Each preview has an anchor, a small ConfigMap that owns its other objects and names the generation and the
provider's epoch that may change them. To take it, one's (generation, epoch) must not be older than what stands
there. The versions of the preview's objects are read *before* the anchor is taken, and each apply carries its
object's version: whoever takes the anchor later writes its generation into every object, so a stale apply finds
another version (409). One for an object that is absent carries version "1" (409 if somebody made it since), and
what is made under an anchor that is gone is collected at once, for its owner is dead (design.md, "Fencing").
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from provider import names, render
from provider.errors import Code, Permanent, PreviewError
from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api, Deletion, Object
from provider.platforms.kubernetes.refusals import Refused, refused
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.watches import Watches, annotation, slug_of

GENERATION = render.PREFIX + "generation"
EPOCH = render.PREFIX + "epoch"
RESERVED = render.PREFIX + "reserved"
"""On an anchor: the newest generation that has its bundle below it, and may change nothing yet."""
PLATFORM = render.PREFIX + "platform-id"
ABSENT = "1"
"""The version that no object has: an apply with it makes the object, or is refused."""
TRIES = 5
FINISH_SECONDS = 20.0
"""Longer than one request may take."""
FENCED = (
    resources.CONFIG_MAPS,
    resources.NETWORK_POLICIES,
    resources.SERVICES,
    resources.DEPLOYMENTS,
    resources.INGRESSES,
)


@dataclass(slots=True)
class Fence:
    """The right to change a preview's objects, as it was when the anchor was taken.

    Args:
        anchor: the ConfigMap, as it was written.
        made: whether it was not there before: nothing is below it yet.
        versions: by (kind, name), of what existed then.
    """

    slug: str
    generation: int
    anchor: Object
    made: bool
    versions: dict[tuple[str, str], str]

    def version(self, resource: Resource, name: str) -> str:
        """What an apply of that object has to carry."""
        return self.versions.get((resource.kind, name), ABSENT)

    @property
    def owner(self) -> Object:
        """The owner reference of everything below the anchor."""
        metadata = self.anchor["metadata"]
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}


class Anchors:
    """Takes, checks and removes anchors; `renew` has to come first."""

    def __init__(self, *, api: Api, watches: Watches, platform_id: str) -> None:
        self._api = api
        self._watches = watches
        self._platform_id = platform_id
        self._epochs: list[int] = []

    def renew(self, epoch: int) -> None:
        """Take anchors by that epoch from now on. Those of this process's earlier epochs are its own still."""
        self._epochs.append(epoch)

    async def take(self, slug: str, generation: int) -> Fence:
        """Make the anchor, or write our generation into it.

        An interruption waits for what comes of it: an anchor that nobody knows of would stay.

        Raises:
            Permanent: `superseded`: a newer generation or provider has it.
        """
        return await self._to_its_end(self._take(slug, generation))

    async def reserve(self, slug: str, generation: int) -> Object:
        """The owner reference of what a generation has before it may change the preview: a teardown leaves it.

        Whoever has the anchor keeps it: an older generation may still have to put the last good back.

        Raises:
            Permanent: `superseded`: a newer generation has it.
        """
        return (await self._to_its_end(self._take(slug, generation, reserve=True))).owner

    async def _to_its_end(self, work: Coroutine[Any, Any, Fence]) -> Fence:
        taking = asyncio.create_task(work)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait({taking}, timeout=FINISH_SECONDS)
            if done and taking.exception() is None:
                await self.undo(taking.result())
            raise

    async def undo(self, fence: Fence) -> None:
        """Remove an anchor that was made and is not needed; one that was there before, or is somebody's now, stays.

        It is done even if it is interrupted.
        """
        if not fence.made:
            return
        removing = asyncio.create_task(self._remove(fence.anchor["metadata"]))
        try:
            await asyncio.shield(removing)
        except asyncio.CancelledError:
            await asyncio.wait({removing}, timeout=FINISH_SECONDS)
            raise

    async def _remove(self, metadata: Object) -> None:
        with suppress(PreviewError, Refused):  # what stays is swept
            await self._api.delete(
                resources.CONFIG_MAPS, metadata["name"], uid=metadata["uid"], version=metadata["resourceVersion"]
            )

    async def _take(self, slug: str, generation: int, *, reserve: bool = False) -> Fence:
        present = self._watches.anchors.get(names.anchor(slug))
        for _ in range(TRIES):
            versions = self._versions(slug)
            holder, reserved = (generation, self._epochs[-1]), generation
            if present is not None:
                self._must_be_older(present, generation, reserve)
                holder = _holder(present) if reserve else holder
                reserved = max(generation, _reserved(present))
            try:
                taken = await self._write(slug, holder, reserved, present)
            except Refused as error:
                if error.code not in {404, 409}:
                    raise refused(error, f"configmap {names.anchor(slug)}") from error
                present = await self._api.get(resources.CONFIG_MAPS, names.anchor(slug))
                continue
            self._watches.anchors.put(taken)
            return Fence(slug, generation, taken, present is None, versions)
        raise refused(Refused(409, "Conflict", "the anchor changes all the time"), f"configmap {names.anchor(slug)}")

    async def check(self, fence: Fence) -> None:
        """Ask the cluster whether the fence still holds.

        Raises:
            Permanent: `superseded`.
        """
        present = await self._api.get(resources.CONFIG_MAPS, names.anchor(fence.slug))
        if present is None or present["metadata"]["uid"] != fence.anchor["metadata"]["uid"]:
            raise fenced("its anchor is gone: the preview was torn down")
        generation, epoch = _holder(present)
        if epoch not in self._epochs or generation != fence.generation:
            raise fenced(f"generation {generation} is being applied")

    async def drop(self, slug: str, uid: str | None = None, up_to: int | None = None) -> bool:
        """Delete the anchor, and so everything it owns; of generations up to `up_to` (None: whatever it is)."""
        name = names.anchor(slug)
        for _ in range(TRIES):
            present = await self._api.get(resources.CONFIG_MAPS, name)
            if present is None or (uid is not None and present["metadata"]["uid"] != uid):
                return False
            if annotation(present, PLATFORM) != self._platform_id:
                return False
            if up_to is not None and _reserved(present) > up_to:
                self._watches.anchors.put(present)  # whoever asks for its `generation` next must know
                return False
            metadata = present["metadata"]
            version = metadata["resourceVersion"]
            deletion = await self._api.delete(resources.CONFIG_MAPS, name, uid=metadata["uid"], version=version)
            if deletion is not Deletion.CHANGED:
                return deletion is Deletion.DONE
        return False

    def generation(self, slug: str) -> int:
        """The newest generation that has something in the cluster, as far as it is known here; 0: none."""
        present = self._watches.anchors.get(names.anchor(slug))
        return _reserved(present) if present is not None else 0

    def present(self) -> list[tuple[str, str, int]]:
        """Slug, uid and generation of every anchor of this installation."""
        return [
            (slug_of(found), found["metadata"]["uid"], _reserved(found))
            for found in self._watches.anchors.all()
            if found["metadata"]["name"] == names.anchor(slug_of(found))
            and annotation(found, PLATFORM) == self._platform_id
        ]

    def _versions(self, slug: str) -> dict[tuple[str, str], str]:
        return {
            (resource.kind, found["metadata"]["name"]): found["metadata"]["resourceVersion"]
            for resource in FENCED
            for found in self._watches.of(resource).of(slug)
        }

    def check_ours(self, slug: str) -> None:
        """Refuse a slug that another installation has here, as far as it is known. Raises `slug_taken`."""
        present = self._watches.anchors.get(names.anchor(slug))
        if present is not None:
            self._must_be_ours(present)

    def _must_be_ours(self, present: Object) -> None:
        other = annotation(present, PLATFORM)
        if other != self._platform_id:
            raise taken_by_another(other, "has a preview of that name in this namespace", "PREVIEW_NAMESPACE")

    def _must_be_older(self, present: Object, generation: int, reserve: bool) -> None:
        self._must_be_ours(present)
        holder = _holder(present)
        if holder[0] > generation or (not reserve and holder > (generation, self._epochs[-1])):
            raise fenced(f"generation {holder[0]} has the preview")

    async def _write(self, slug: str, holder: tuple[int, int], reserved: int, present: Object | None) -> Object:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names.anchor(slug),
                "namespace": self._api.namespace(resources.CONFIG_MAPS),
                "labels": {
                    "app": slug,
                    "x1-preview": "true",
                    "app.kubernetes.io/managed-by": render.MANAGED_BY,
                    PLATFORM: render.label_value(self._platform_id),
                },
                "annotations": {
                    GENERATION: str(holder[0]),
                    EPOCH: str(holder[1]),
                    RESERVED: str(reserved),
                    PLATFORM: self._platform_id,
                },
            },
        }
        if present is None:
            return await self._api.create(resources.CONFIG_MAPS, body)
        body["metadata"] |= {key: present["metadata"][key] for key in ("uid", "resourceVersion")}  # type: ignore[operator]
        return await self._api.update(resources.CONFIG_MAPS, body)


def taken_by_another(platform_id: str, what: str, setting: str) -> Permanent:
    """Two installations that share a namespace met at a slug: nothing of the other's is touched."""
    return Permanent(
        Code.SLUG_TAKEN,
        f"Another installation {what}.",
        reason="OtherPlatform",
        hint=f"Give each installation a {setting} of its own.",
        evidence=(f"platform id {platform_id}",),
    )


def fenced(why: str) -> Permanent:
    """Somebody newer has the preview."""
    return Permanent(
        Code.SUPERSEDED,
        f"This deploy may not change the preview any more: {why}.",
        reason="Fenced",
        hint="Ask for the preview's status; the newest request decides what it serves.",
    )


def _holder(anchor: Object) -> tuple[int, int]:
    return int(annotation(anchor, GENERATION) or 0), int(annotation(anchor, EPOCH) or 0)


def _reserved(anchor: Object) -> int:
    return max(_holder(anchor)[0], int(annotation(anchor, RESERVED) or 0))
