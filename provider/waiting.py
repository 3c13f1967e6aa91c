"""The request `wait`: answered when a preview or deploy is in a state that somebody waits for, or when time is up.

Hundreds may wait, so nobody polls: previews are watched by every provider anyway, and while anybody waits for a deploy
one watch sees all of them. Who waits costs an entry in a table and a timer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from provider.background import ended, forever
from provider.bus import requests
from provider.bus.endpoints import Handler, Incoming
from provider.bus.queries import WaitRequest
from provider.models import DeployRecord, PreviewRecord, PreviewState, WaitedDeploy, WaitedPreview
from provider.pipeline.causes import not_found
from provider.pipeline.context import Context
from provider.store.lifetime import Policy

LINGER_SECONDS = 5.0
"""How long deploys are watched after the last one was waited for: who was told that time is up asks again at once."""

_Record = PreviewRecord | DeployRecord
_Key = tuple[str, str]


@dataclass(eq=False, slots=True)
class _Waiter:
    """Somebody who waits; `last` is the record as it was last seen, None where there is none (any more)."""

    states: frozenset[PreviewState]
    last: _Record | None = None
    reached: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, record: _Record | None) -> None:
        """The record is like this now."""
        if self.reached:
            return
        gone = record is None or (isinstance(record, PreviewRecord) and record.removed_at is not None)
        self.last = None if gone else record
        if self.last is None or self.last.state in self.states:
            self.reached = True
            self.done.set()


class Waiting:
    """Answers `wait`."""

    def __init__(self, ctx: Context) -> None:
        self._store = ctx.store
        self._policy = Policy.of(ctx.settings)
        self._waiters: defaultdict[_Key, set[_Waiter]] = defaultdict(set)
        self._deploys = 0
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    def handlers(self) -> dict[str, Handler]:
        """The handler of the endpoint."""
        return {"wait": self.wait}

    def on_preview(self, preview: PreviewRecord) -> None:
        """A preview's record is like this now."""
        self._tell(("preview", preview.slug), preview)

    async def close(self) -> None:
        """Let everybody go; they ask again, at another provider. Whoever comes yet does not wait."""
        self._closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.done.set()
        if self._watch is not None:
            await ended([self._watch])

    async def wait(self, incoming: Incoming) -> dict[str, Any]:
        """The record, as soon as it is in one of the states; `timed_out` when it never was."""
        asked = requests.one_of_them(WaitRequest, incoming.body)
        key = ("deploy", asked.deploy_id) if asked.deploy_id is not None else ("preview", str(asked.slug))
        waiter = _Waiter(frozenset(asked.for_))
        self._enter(key, waiter)
        try:
            # Looked at after it is watched: what changes in between is seen at least once.
            waiter.see(await self._present(key))
            await self._patiently(waiter, asked.timeout_seconds)
        finally:
            self._leave(key, waiter)
        return self._answer(key, waiter)

    async def _present(self, key: _Key) -> _Record | None:
        kind, name = key
        return await (self._store.get_deploy(name) if kind == "deploy" else self._store.get_preview(name))

    async def _patiently(self, waiter: _Waiter, seconds: float) -> None:
        try:
            async with asyncio.timeout(0 if self._closed else seconds):
                await waiter.done.wait()
        except TimeoutError:
            return

    def _answer(self, key: _Key, waiter: _Waiter) -> dict[str, Any]:
        timed_out = {"timed_out": not waiter.reached}
        if isinstance(record := waiter.last, PreviewRecord):
            return WaitedPreview.of(record, self._policy.expires_at(record), **timed_out).model_dump(mode="json")
        if isinstance(record, DeployRecord):
            return WaitedDeploy.of(record, **timed_out).model_dump(mode="json")
        raise not_found(*key)

    # ------------------------------------------------------------------ who waits

    def _enter(self, key: _Key, waiter: _Waiter) -> None:
        self._waiters[key].add(waiter)
        if key[0] == "deploy":
            self._deploys += 1
            if self._watch is None and not self._closed:
                self._watch = asyncio.create_task(forever(self._watch_deploys, 0), name="watch deploys")

    def _leave(self, key: _Key, waiter: _Waiter) -> None:
        self._waiters[key].discard(waiter)
        if not self._waiters[key]:
            del self._waiters[key]
        if key[0] == "deploy":
            self._deploys -= 1
            if not self._deploys:
                asyncio.get_running_loop().call_later(LINGER_SECONDS, self._rest)

    def _rest(self) -> None:
        if not self._deploys and self._watch is not None and not self._closed:
            self._watch.cancel()
            self._watch = None

    def _tell(self, key: _Key, record: _Record | None) -> None:
        for waiter in self._waiters.get(key, ()):
            waiter.see(record)

    async def _watch_deploys(self) -> None:
        async for deploy_id, record in self._store.watch_deploys(lambda one: ("deploy", one) in self._waiters):
            self._tell(("deploy", deploy_id), record)
