"""A provider's start: a thousand modules at once, and what of that need not be."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

T = TypeVar("T")

NOT_FOR_SERVERS = ("rich", "httpx._main")
"""httpx's command line and structlog's pretty tracebacks: both are left out where these cannot be imported."""
GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""With Python's own (700, 10, 10) a tenth of a deploy's time went into looking for garbage that was not there."""
ASKED_FOR_AGAIN_AND_AGAIN = ("sniffio",)
"""httpcore tries to import it six times a request, and where it is not installed looks for it on disk each time."""


@contextmanager
def quickly() -> Iterator[None]:
    """Import within this what lives as long as the process.

    Modules make no garbage worth looking for, so it is not looked for (a fifth of the time), now or later. And
    aiohttp reads all the world's authorities, twice (80 ms): for connections by its own defaults, which a provider
    makes none of and which would trust nobody now.
    """
    absent = [name for name in NOT_FOR_SERVERS if name not in sys.modules]
    gc.disable()
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[assignment,method-assign]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is how Python says "not importable"
    try:
        yield
    finally:
        del ssl.SSLContext.set_default_verify_paths  # what it inherits is left
        for name in absent:
            del sys.modules[name]
        for name in ASKED_FOR_AGAIN_AND_AGAIN:
            if name not in sys.modules and find_spec(name) is None:
                sys.modules[name] = None  # type: ignore[assignment]
        gc.freeze()
        gc.enable()


def settle() -> None:
    """For a process that lives long: garbage is looked for less often, and no thread waits for each child."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    if sys.version_info < (3, 12):  # since then it is the default
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
        asyncio.wait_for = _wait_for  # type: ignore[assignment]


async def _wait_for(awaited: Awaitable[T], timeout: float | None) -> T:
    """`asyncio.wait_for` as it is since Python 3.12.

    Before, it takes a task and a future more, and swallows a cancellation that comes together with the outcome: a
    deploy that is cancelled just as the NATS client, which waits by it, gets an answer would go on.
    """
    async with asyncio.timeout(timeout):
        return await awaited
