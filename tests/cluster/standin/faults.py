"""Faults on demand: what a test wants to go wrong, for which requests, how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

HELD_SECONDS = 60.0
"""How long a test waits for the request that it means to hold."""


@dataclass(eq=False)
class Fault:
    """One fault: it strikes `times` times, or until it is lifted.

    `verb`, `resource` (`pods/log` for a subresource), `name`, `namespace` and `user` are patterns of fnmatch.
    """

    action: str  # delay, too_many, error, cut_before, cut_after, expire, slow or hold
    verb: str = "*"
    resource: str = "*"
    name: str = "*"
    namespace: str = "*"
    user: str = "*"
    times: int | None = None
    seconds: float = 0.0
    code: int = 500
    struck: int = 0
    holding: int = 0
    _held: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, verb: str, resource: str, namespace: str, name: str, user: str) -> bool:
        if self.times is not None and self.struck >= self.times:
            return False
        pairs = (
            (verb, self.verb),
            (resource, self.resource),
            (namespace, self.namespace),
            (name, self.name),
            (user, self.user),
        )
        return all(fnmatchcase(value, pattern) for value, pattern in pairs)

    async def delayed(self) -> None:
        """Waits for the fault's delay, or until it is lifted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self._released.wait()

    async def held(self) -> None:
        """Returns as soon as a request is being held.

        Raises:
            TimeoutError: none that this fault is for came.
        """
        async with asyncio.timeout(HELD_SECONDS):
            await self._held.wait()

    def release(self) -> None:
        """Lets the held requests go on, and those that come after them."""
        self._released.set()

    async def hold(self) -> None:
        """Keeps a request until the test releases it."""
        self.holding += 1
        self._held.set()
        try:
            await self._released.wait()
        finally:
            self.holding -= 1


class Faults:
    """The faults that are in force; each method adds one and returns it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def delay(self, seconds: float, **where: str | int | None) -> Fault:
        """The answer comes later: `faults.delay(0.5, verb="patch", resource="deployments", times=2)`."""
        return self._add("delay", seconds=seconds, **where)

    def too_many(self, retry_after: int = 1, **where: str | int | None) -> Fault:
        """429 with Retry-After, without doing anything."""
        return self._add("too_many", seconds=float(retry_after), **where)

    def error(self, code: int = 500, **where: str | int | None) -> Fault:
        """An error of the server itself, without doing anything."""
        return self._add("error", code=code, **where)

    def cut(self, *, done: bool = False, **where: str | int | None) -> Fault:
        """The connection breaks: before the request is done, or (`done`) after it, without an answer."""
        return self._add("cut_after" if done else "cut_before", **where)

    def expire_watch(self, **where: str | int | None) -> Fault:
        """A watch ends with 410, whatever its version."""
        return self._add("expire", verb="watch", **where)

    def slow_watch(self, seconds: float, **where: str | int | None) -> Fault:
        """Each event of a watch comes later, of those that are open already too; it strikes once an event."""
        return self._add("slow", verb="watch", seconds=seconds, **where)

    def hold(self, **where: str | int | None) -> Fault:
        """A request waits until the test says `release()`; `await held()` waits for the request."""
        return self._add("hold", **where)

    def lift(self, fault: Fault) -> None:
        """Ends a fault; what it holds goes on."""
        fault.release()
        if fault in self._faults:
            self._faults.remove(fault)

    def clear(self) -> None:
        for fault in tuple(self._faults):
            self.lift(fault)

    def striking(self, verb: str, resource: str, namespace: str, name: str, user: str) -> list[Fault]:
        """The faults that this request meets, in the order in which they were added."""
        return self._struck(
            lambda fault: fault.action != "slow" and fault.matches(verb, resource, namespace, name, user)
        )

    def slowing(self, resource: str, namespace: str, name: str, user: str) -> list[Fault]:
        """The faults that slow the next event of a watch."""
        return self._struck(
            lambda fault: fault.action == "slow" and fault.matches("watch", resource, namespace, name, user)
        )

    def _struck(self, meets: Callable[[Fault], bool]) -> list[Fault]:
        found = [fault for fault in self._faults if meets(fault)]
        for fault in found:
            fault.struck += 1
        return found

    def _add(self, action: str, **options: str | float | None) -> Fault:
        fault = Fault(action, **options)  # type: ignore[arg-type]
        self._faults.append(fault)
        return fault
