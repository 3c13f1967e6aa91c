"""A stream of messages to one inbox: each is taken before the next is sent, so a slow reader slows the sender down.

The reader answers each message with anything. An inbox that nobody listens at any more, or that takes nothing for a
while, has lost its reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client

TAKEN_WITHIN = 15.0


class InboxStream:
    """Sends to one inbox.

    Args:
        taken_within: seconds in which the reader has to take a message.
    """

    def __init__(self, nc: Client, inbox: str, *, taken_within: float = TAKEN_WITHIN) -> None:
        self._nc = nc
        self._inbox = inbox
        self._taken_within = taken_within
        self._number = 0

    async def send(self, body: Mapping[str, Any]) -> bool:
        """Send a message, numbered by `seq`; False when there is no reader any more."""
        return await self.send_encoded(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())

    async def send_encoded(self, body: bytes) -> bool:
        """The same of a message that is JSON already, an object with something in it."""
        payload = b'%s,"seq":%d}' % (body[:-1], self._number)
        self._number += 1
        try:
            await self._nc.request(self._inbox, payload, timeout=self._taken_within)
        except (nats.errors.Error, ValueError):
            return False
        return True
