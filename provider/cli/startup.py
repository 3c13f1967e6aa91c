"""A provider's start: a thousand modules at once, and what of that need not be."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOT_FOR_SERVERS = ("rich", "httpx._main")
"""httpx's command line and structlog's pretty tracebacks: both are left out where these cannot be imported."""


@contextmanager
def quickly() -> Iterator[None]:
    """Import within this what lives as long as the process.

    Modules make no garbage worth looking for, so it is not looked for (a fifth of the time), now or later.
    """
    absent = [name for name in NOT_FOR_SERVERS if name not in sys.modules]
    gc.disable()
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is how Python says "not importable"
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
        gc.freeze()
        gc.enable()
