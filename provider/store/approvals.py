"""Verdicts on deploys that wait for an approval, for whichever provider runs them: the first one counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import ValidationError

from provider.errors import Code, Permanent
from provider.models import Verdict
from provider.store.kv import Entry, KeyExists, KeyValue

_PREFIX = "approval."


class _Stored(Verdict):
    platform_id: str


class Approvals:
    """The verdicts of one installation.

    Args:
        bucket: where deploy records are, and as short-lived as they.
        platform_id: whose verdicts these are.
    """

    def __init__(self, bucket: KeyValue, platform_id: str) -> None:
        self._bucket = bucket
        self._platform_id = platform_id

    async def decide(self, deploy_id: str, verdict: Verdict) -> Verdict:
        """Decide, if nobody has yet; returns what counts."""
        stored = _Stored(platform_id=self._platform_id, **verdict.model_dump())
        try:
            await self._bucket.create(_PREFIX + deploy_id, stored.model_dump_json().encode())
        except KeyExists:
            return await self.get(deploy_id) or verdict
        return verdict

    async def get(self, deploy_id: str) -> Verdict | None:
        """What was decided of the deploy; None: nothing yet."""
        entry = await self._bucket.get(_PREFIX + deploy_id)
        return self._read(entry) if entry is not None else None

    async def watch(self) -> AsyncIterator[str]:
        """The ids of deploys of which something is decided, or was; for ever."""
        async for change in self._bucket.watch(_PREFIX):
            if isinstance(change, Entry):
                yield change.key.removeprefix(_PREFIX)

    def _read(self, entry: Entry) -> Verdict:
        try:
            stored = _Stored.model_validate_json(entry.value)
        except ValidationError:
            stored = None
        if stored is None or stored.platform_id != self._platform_id:
            raise Permanent(
                Code.INTERNAL_ERROR,
                f"{entry.key} is no verdict of ours.",
                reason="UnreadableRecord",
                hint="Another installation or version may have written it: remove that key, and decide again.",
            )
        return Verdict.model_validate(stored.model_dump(exclude={"platform_id"}))
