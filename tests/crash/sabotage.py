"""Ways to take one guard away from a provider: its part becomes one of a class that does without.

Nothing of this can be switched on in the provider itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from provider.bus.replies import encode
from provider.bus.reporter import Reporter
from provider.errors import PreviewError
from provider.models import TraceContext
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.fence import Anchors, Fence
from provider.platforms.kubernetes.orphans import Orphans
from provider.platforms.kubernetes.platform import KubernetesPlatform
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.watches import slug_of
from provider.platforms.needs import Needed, Orphan
from provider.service import Provider
from provider.source import Source
from provider.source.remote import Remote
from provider.store.jetstream import JetStreamKeyValue, payload_limit

T = TypeVar("T")


class Overwriting(JetStreamKeyValue):
    """Writes whatever stands there by now."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Without comparing."""
        return await self.put(key, value)


class AnyGeneration(Anchors):
    """Takes every generation for the newest."""

    async def check(self, fence: Fence) -> None:
        """It holds, whatever the cluster says."""

    def _must_be_older(self, present: Object, generation: int, reserve: bool) -> None:
        """It is."""


class AnyEpoch(Anchors):
    """Takes every provider's epoch for one of its own."""

    async def check(self, fence: Fence) -> None:
        """Only the generation is compared."""
        self._epochs = list(range(1, 100_000))
        await super().check(fence)


class Ownerless(Api):
    """Applies objects that belong to no anchor."""

    async def apply(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        """Without owner references."""
        metadata = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
        return await super().apply(resource, {**body, "metadata": metadata}, dry_run=dry_run)


class Greedy(Orphans):
    """Takes every object for one that this installation made."""

    def _objects(self, found: list[tuple[Resource, Object]], needed: Needed) -> Iterator[Orphan]:
        for resource, one in found:
            if (slug := slug_of(one)) and needed.is_gone(slug):
                yield self._object(resource, one, slug)


class Once(Reporter):
    """Says it once, and does not look whether anybody took it."""

    async def deliver(
        self, reply: str, body: Mapping[str, Any], deadline: datetime, trace: TraceContext | None = None
    ) -> bool:
        """A plain publish."""
        await self._nc.publish(reply, encode(body, payload_limit(self._nc)))
        return True


class Gullible(Source):
    """Takes an error of the git host for the answer that there is no such branch."""

    async def _with_credential(
        self, remote: Remote, installation_id: int | None, ask: Callable[[Remote], Awaitable[T]]
    ) -> T:
        try:
            return await super()._with_credential(remote, installation_id, ask)
        except PreviewError:
            return frozenset({"another"})  # type: ignore[return-value]


def platform(provider: Provider) -> KubernetesPlatform:
    """Its platform."""
    found = provider._platform
    assert isinstance(found, KubernetesPlatform)
    return found


def no_compare_and_set(provider: Provider) -> None:
    """Records are overwritten."""
    store = provider._store
    for bucket in (store._previews, store._deploys):
        bucket.__class__ = Overwriting


def no_generation_check(provider: Provider) -> None:
    """An older generation may take the anchor, and apply."""
    platform(provider)._anchors.__class__ = AnyGeneration


def no_epoch(provider: Provider) -> None:
    """A provider that was taken for dead may apply as before."""
    platform(provider)._anchors.__class__ = AnyEpoch


def no_anchor(provider: Provider) -> None:
    """Objects outlive their anchor."""
    platform(provider)._api.__class__ = Ownerless


def no_repetition(provider: Provider) -> None:
    """An answer that nobody took is lost."""
    provider._ctx.reporter.__class__ = Once


def errors_are_answers(provider: Provider) -> None:
    """An outage of the git host looks like a branch that is gone."""
    provider._source.__class__ = Gullible


def no_label_prefix(provider: Provider) -> None:
    """The sweep takes what others made."""
    platform(provider)._orphans.__class__ = Greedy
