"""What the client of the container engine's API raises, in our words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiodocker
import aiohttp
import httpx
import structlog

from provider.diagnose import rollouts
from provider.errors import Code, Permanent, Temporary

log = structlog.get_logger(__name__)

STARTING = ("create container", "start container", "restart container")
"""Calls whose failure may be of the image, or of the spec."""
NO_ANSWER = 900
"""The status that the client gives to an engine that cannot be reached."""


@contextmanager
def translated(call: str, *, gone_is_fine: bool = False) -> Iterator[None]:
    """Every call of the engine: its errors become ours, its time stands in the log at level debug."""
    began = time.perf_counter()
    try:
        yield
        log.debug("engine.call", call=call, ms=round(1000 * (time.perf_counter() - began), 1))
    except aiodocker.DockerError as error:
        if gone_is_fine and error.status in {304, 404}:
            return
        evidence = f"{error.status} {str(error.message)[:300]}"
        if call.startswith(STARTING) and (cause := rollouts.not_started(str(error.message))) is not None:
            raise cause.error() from error
        raise unreachable(call, evidence, answered=error.status < NO_ANSWER) from error
    except (aiohttp.ClientError, httpx.HTTPError, TimeoutError, OSError) as error:
        raise unreachable(call, repr(error)) from error


def unreachable(call: str, evidence: str, *, answered: bool = False) -> Temporary:
    """The engine did not do what it was asked; worth another try. One that answered may fail for this preview alone."""
    return Temporary(
        Code.PLATFORM_UNREACHABLE,
        "The container engine did not do its part.",
        reason="EngineFailed" if answered else "EngineUnreachable",
        hint="Check the engine's service at CONTAINER_HOST.",
        evidence=(call, evidence),
    )


def unpullable(reference: str, evidence: str) -> Permanent:
    """The registry says that there is no such image."""
    return Permanent(
        Code.IMAGE_UNPULLABLE,
        f"The registry has no image {reference}.",
        reason="ImageNotFound",
        hint="Deploy again: the image is built anew.",
        evidence=(evidence[:300],),
    )
