"""Wishes that a deploy be stopped, for whichever provider runs it: a key for each, watched by all."""

from __future__ import annotations

from collections.abc import AsyncIterator

from provider.store.encoding import stamp
from provider.store.kv import Entry, KeyValue

_PREFIX = "cancel."


class Cancels:
    """The wishes of one installation.

    Args:
        bucket: where deploy records are, and as short-lived as they.
        platform_id: whose wishes these are.
    """

    def __init__(self, bucket: KeyValue, platform_id: str) -> None:
        self._bucket = bucket
        self._stamp = stamp(platform_id)

    async def ask(self, deploy_id: str) -> None:
        """Ask whoever runs the deploy, or will run it, to stop it."""
        await self._bucket.put(_PREFIX + deploy_id, self._stamp)

    async def asked(self) -> frozenset[str]:
        """The deploys that somebody asked to stop."""
        entries = await self._bucket.entries(_PREFIX)
        return frozenset(one.key.removeprefix(_PREFIX) for one in entries if one.value == self._stamp)

    async def watch(self) -> AsyncIterator[str]:
        """The ids of deploys that somebody asks, or asked, to stop; for ever."""
        async for change in self._bucket.watch(_PREFIX):
            if isinstance(change, Entry) and change.value == self._stamp:
                yield change.key.removeprefix(_PREFIX)
