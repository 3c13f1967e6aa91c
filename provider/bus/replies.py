"""The reply promise: an answer is repeated until an inbox takes it or its deadline passes.

After a restart of the bus a responder may be back before the requester, and a plain publish is then
flushed and lost. Published as a request, a subject where nobody listens answers "no responders".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client

from provider.models import now

log = structlog.get_logger(__name__)

_TAKEN_AFTER = 1.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_GIVEN_UP_FIRST = ("log_tail", "evidence", "checks", "warnings", "timings", "hint")
_SHORTENED = "shortened: the answer was larger than the bus carries"


async def deliver(
    nc: Client, reply_subject: str, payload: bytes, deadline: datetime, headers: dict[str, str] | None = None
) -> bool:
    """Send an answer until somebody is there to take it.

    Args:
        nc: the client.
        reply_subject: where the answer goes.
        payload: at most `store.payload_limit(nc)` bytes (see `encode`).
        deadline: when to stop repeating.
        headers: sent along.

    Returns: whether it was taken. At least once: a restart in between may deliver it twice.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            if await _taken(nc, reply_subject, payload, headers):
                return True
        except (nats.errors.BadSubjectError, nats.errors.MaxPayloadError, nats.errors.ConnectionClosedError) as error:
            # Repeating changes none of these; a closed client ends the process anyway.
            log.warning("reply.impossible", subject=reply_subject, error=type(error).__name__)
            return False
        except nats.errors.Error as error:
            log.debug("reply.again", subject=reply_subject, error=type(error).__name__)
        left = (deadline - now()).total_seconds()
        if left <= 0:
            log.warning("reply.not_taken", subject=reply_subject)
            return False
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _taken(nc: Client, subject: str, payload: bytes, headers: dict[str, str] | None) -> bool:
    """Whether somebody listens there and the message went out over one unbroken connection."""
    reconnects = nc.stats["reconnects"]
    if not nc.is_connected:
        return False
    try:
        await nc.request(subject, payload, timeout=_TAKEN_AFTER, headers=headers)
    except nats.errors.TimeoutError:
        # Silence means that it was taken, unless it only sat in the client's buffer.
        return nc.is_connected and nc.stats["reconnects"] == reconnects
    return True


def encode(body: Mapping[str, Any], limit: int) -> bytes:
    """The answer as JSON of at most `limit` bytes: what explains it goes before what it says."""
    whole = _json(body)
    if len(whole) <= limit:
        return whole
    shorter = dict(body)
    for name in _GIVEN_UP_FIRST:
        if name in shorter:
            shorter[name] = [_SHORTENED] if isinstance(shorter[name], list | tuple) else None
        if len(encoded := _json(shorter)) <= limit:
            return encoded
    texts = {name: value[:1000] if isinstance(value, str) else value for name, value in shorter.items()}
    kept = {name: value for name, value in texts.items() if len(_json(value)) <= 2000}
    return _json(kept)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
