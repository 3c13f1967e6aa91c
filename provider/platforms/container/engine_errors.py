"""What the client of the container engine's API raises, in our words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiodocker
import aiohttp
import httpx
import structlog
from aiohttp.http_exceptions import HttpProcessingError

from provider.diagnose import rollouts
from provider.errors import Code, Permanent, Temporary

log = structlog.get_logger(__name__)

STARTING = ("create container", "start container", "restart container")
"""Calls whose failure may be of the image, or of the spec."""
MOST_SAID = 300
NOT_UNDERSTOOD = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What comes of reading an answer that is none: Docker's client looks at nothing before it uses it."""
NO_ANSWER = 900
"""The status that the client gives to an engine that cannot be reached."""


@contextmanager
def translated(call: str, *, gone_is_fine: bool = False) -> Iterator[None]:
    """Every call of the engine: its errors become ours, its time stands in the log at level debug."""
    began = time.perf_counter()
    try:
        with understood(call):
            yield
        log.debug("engine.call", call=call, ms=round(1000 * (time.perf_counter() - began), 1))
    except aiodocker.DockerError as error:
        if gone_is_fine and error.status in {304, 404}:
            return
        evidence = f"{error.status} {str(error.message)[:MOST_SAID]}"
        if call.startswith(STARTING) and (cause := rollouts.not_started(str(error.message))) is not None:
            raise cause.error() from error
        raise unreachable(call, evidence, answered=error.status < NO_ANSWER) from error
    except (aiohttp.ClientError, HttpProcessingError, httpx.HTTPError, TimeoutError, OSError) as error:
        raise unreachable(call, repr(error)[:MOST_SAID]) from error


@contextmanager
def understood(call: str) -> Iterator[None]:
    """Reading what was answered: what is not there, or something else, is the engine's failure."""
    try:
        yield
    except NOT_UNDERSTOOD as error:
        raise unreachable(call, f"an answer that is none: {error!r}"[:MOST_SAID], answered=True) from error


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
        evidence=(evidence[:MOST_SAID],),
    )
