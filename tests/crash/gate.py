"""What a provider does to the world, one effect after the other; at a chosen one it dies.

Everything that leaves a provider passes its gate: each message to the bus, each request to the API server. Reading is
no effect. A provider that is dead does nothing any more: what it still tries waits for ever.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")

_IDS = re.compile(r"[0-9a-f]{12,64}")


class Side(StrEnum):
    """`before`: the effect does not happen; `after`: it does, and the provider never learns so."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, order=True)
class Point:
    """The nth effect of that name, and on which side of it the provider dies."""

    effect: str
    nth: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} {self.effect} #{self.nth}"


class Gate:
    """Counts a provider's effects, and ends them at a point.

    Attributes:
        effects: their names, in order, since `arm`.
        done: how many of each name have happened since.
        died: set as soon as nothing more gets out.
        frozen: set while nothing gets out for now, as if it were stopped or cut off.
    """

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.died = asyncio.Event()
        self.frozen = asyncio.Event()
        self._thawed = asyncio.Event()
        self._bus = asyncio.Event()
        self._freeze: tuple[str, int] | None = None
        self._armed = False
        self._point: Point | None = None
        self.done: Counter[str] = Counter()
        self._count: Counter[str] = Counter()

    @property
    def dead(self) -> bool:
        """Whether nothing gets out any more."""
        return self.died.is_set()

    def arm(self, point: Point | None) -> None:
        """Count from now on, and die there."""
        self.effects, self.done, self._count = [], Counter(), Counter()
        self._armed, self._point = True, point

    def disarm(self) -> None:
        """Count no longer."""
        self._armed, self._point = False, None

    def freeze_before(self, effect: str, nth: int = 1) -> None:
        """Count from now on; from just before that effect on nothing gets out, until `thaw`."""
        self.arm(None)
        self._freeze = (effect, nth)

    def thaw(self, *, bus: bool = True) -> None:
        """Go on as if no time had passed; without the bus, it is still cut off from that."""
        self.frozen.clear()
        self._thawed.set()
        if bus:
            self._bus.set()

    async def connected(self) -> None:
        """Wait until the bus can be reached."""
        if self.frozen.is_set() or (self._thawed.is_set() and not self._bus.is_set()):
            await self._bus.wait()

    def die(self) -> None:
        """Nothing gets out from now on."""
        self.died.set()

    async def read(self, act: Callable[[], Awaitable[T]]) -> T:
        """Something that changes nothing."""
        await self._alive()
        return await act()

    async def effect(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        """An effect: it happens, or this never returns."""
        await self._alive()
        if not self._armed:
            return await act()
        self.effects.append(name)
        self._count[name] += 1
        here = (name, self._count[name])
        if here == self._freeze:
            self.frozen.set()
            await self._alive()
        await self._die_at(here, Side.BEFORE)
        try:
            result = await act()
        except Exception:  # it was refused: an effect all the same
            await self._done(here)
            raise
        await self._done(here)
        await self._alive()
        return result

    async def _done(self, here: tuple[str, int]) -> None:
        self.done[here[0]] += 1
        await self._die_at(here, Side.AFTER)

    async def _die_at(self, here: tuple[str, int], side: Side) -> None:
        if self._point == Point(*here, side):
            self.die()
            await self._alive()

    async def _alive(self) -> None:
        if self.frozen.is_set():
            await self._thawed.wait()
        if self.dead:
            await asyncio.Future()


def points(effects: list[str]) -> list[Point]:
    """Both sides of each effect, in order."""
    count: Counter[str] = Counter()
    found = []
    for name in effects:
        count[name] += 1
        found += [Point(name, count[name], side) for side in Side]
    return found


def message_name(subject: str, payload: bytes) -> str | None:
    """The name of what a message does; None if it only asks for something to read."""
    if subject.startswith("$KV."):
        bucket, _, key = subject.removeprefix("$KV.").partition(".")
        return f"kv {bucket.rpartition('_')[2]} {key.partition('.')[0]}"
    if subject.startswith("$JS.API.STREAM.CREATE"):
        return "stream create"
    if subject.startswith("$JS."):
        return None
    if ".events." in subject:
        event = json.loads(payload)
        return f"event {event['type']} {event.get('phase', '')}".strip()
    if subject.startswith("$O."):
        return "kept log"
    if subject.startswith("_INBOX."):
        return "reply"
    return "session" if subject.startswith("x1.session.") else _IDS.sub("*", subject)


def request_name(verb: str, resource: str, name: str, slug: str) -> str:
    """The name of a request that changes something in the cluster."""
    return f"{verb} {resource} {_IDS.sub('*', name.replace(slug, 'SLUG'))}".strip()
