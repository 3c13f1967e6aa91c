"""A fault: how it is caused, and what callers have to be told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from provider.client import PreviewFailed

Json = dict[str, Any]
W = TypeVar("W")

PATIENCE = 240.0
"""Seconds for one fault, on a machine where all of them happen at once."""


@dataclass(frozen=True)
class Fault(Generic[W]):
    """One fault of a world `W`.

    Args:
        name: its own.
        cause: does it, and ends with the failure that it is answered with.
        code, reason, whose: what the answer has to say.
        names: what its hint has to name: file and line, field, port, key.
    """

    name: str
    cause: Callable[[W], Awaitable[object]]
    code: str
    reason: str
    whose: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a fault; `wrong` is empty where all of it is right."""

    name: str
    where: str
    told: str
    hint: str
    seconds: float
    wrong: tuple[str, ...]


async def happen(where: str, world: W, faults: Iterable[Fault[W]], *, at_once: int) -> list[Outcome]:
    """Let all of them happen, so many at once."""
    places = asyncio.Semaphore(at_once)

    async def one(fault: Fault[W]) -> Outcome:
        async with places:
            return await _outcome(where, world, fault)

    return list(await asyncio.gather(*map(one, faults)))


async def _outcome(where: str, world: W, fault: Fault[W]) -> Outcome:
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await fault.cause(world)
        reply: Json = dict(answer) if isinstance(answer, dict) else {}
    except PreviewFailed as failed:
        reply = failed.reply
    except Exception as error:  # a fault that could not be caused is a miss, and the others go on
        reply = {"code": repr(error)[:300]}
    hint = str(reply.get("hint") or "")
    told = f"{reply.get('code')} {reply.get('reason')} {reply.get('whose')}"
    return Outcome(fault.name, where, told, hint, time.monotonic() - began, tuple(_wrong(fault, reply, hint)))


def _wrong(fault: Fault[Any], reply: Json, hint: str) -> Iterable[str]:
    if reply.get("ok") is not False:
        yield f"it did not fail: {str(reply)[:300]}"
    for field in ("code", "reason", "whose"):
        if reply.get(field) != getattr(fault, field):
            yield f"{field}: {reply.get(field)} instead of {getattr(fault, field)}"
    for name in fault.names:
        if name not in hint:
            yield f"the hint does not name {name}"
