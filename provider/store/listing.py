"""What is below a subject of a stream, then what comes: the seam between a bucket and the server's consumers."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Self

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

log = structlog.get_logger(__name__)

LISTING_SECONDS = 5.0
"""How long the next message of a listing may take."""
_BATCH = 256
_NO_MORE = ("404", "408")
_KEPT_SECONDS = 30.0


class Pull:
    """Messages of a stream, asked for by a short-lived consumer; made by `open`."""

    def __init__(self, nc: Client, inbox: Subscription, pull_subject: str, empty: bool) -> None:
        self._nc = nc
        self._inbox = inbox
        self._pull_subject = pull_subject
        self._empty = empty
        self._asked = 0

    @classmethod
    async def open(
        cls,
        nc: Client,
        js: JetStreamContext,
        stream: str,
        subject: str,
        *,
        after: int = 0,
        since: datetime | None = None,
        policy: DeliverPolicy = DeliverPolicy.ALL,
    ) -> Self:
        """What is below `subject`: what was written after that revision, or since then, or what the policy says."""
        if after:
            policy = DeliverPolicy.BY_START_SEQUENCE
        elif since is not None:
            policy = DeliverPolicy.BY_START_TIME
        config = ConsumerConfig(
            filter_subject=subject,
            deliver_policy=policy,
            opt_start_seq=after + 1 if after else None,
            opt_start_time=since.astimezone(UTC) if since is not None and not after else None,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_KEPT_SECONDS,
            mem_storage=True,
        )
        info = await js.add_consumer(stream, config)
        inbox = await nc.subscribe(nc.new_inbox())
        return cls(nc, inbox, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}", empty=not info.num_pending)

    async def waiting(self) -> AsyncIterator[Msg]:
        """Everything that is there.

        Neither the client's watcher nor a message's count of pending ones says reliably where that ends: the count is
        wrong when keys are rewritten meanwhile (seen on 2.9.10). A pull request with `no_wait` makes the server say
        itself that there is no more.
        """
        more = not self._empty
        while more:
            await self._pull({"batch": _BATCH, "no_wait": True})
            for _ in range(_BATCH):
                message = await self._inbox.next_msg(timeout=LISTING_SECONDS)
                if _is_end(message):
                    more = False
                    break
                yield message

    async def next(self, timeout: float) -> Msg | None:
        """The next message, or None when none came in `timeout` seconds."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if not self._asked:  # for many at once: a request for each is as much work as the messages
                await self._pull({"batch": _BATCH, "expires": int(left * 1e9)})
                self._asked = _BATCH
            try:
                message = await self._inbox.next_msg(timeout=left)
            except TimeoutError:
                return None
            if not _is_end(message):
                self._asked -= 1
                return message
            self._asked = 0  # its time was over
        return None

    async def close(self) -> None:
        """Stop listening; the server removes the consumer by itself."""
        try:
            await self._inbox.unsubscribe()
        except nats.errors.Error as error:
            log.debug("store.listing.close", error=type(error).__name__)

    async def _pull(self, request: dict[str, object]) -> None:
        await self._nc.publish(self._pull_subject, json.dumps(request).encode(), reply=self._inbox.subject)


class Listing(Pull):
    """The last value of each key below a subject, then what comes; one that is rewritten meanwhile may come twice."""

    @classmethod
    async def of(cls, nc: Client, js: JetStreamContext, stream: str, subject: str, after: int = 0) -> Self:
        """`after`: list only what was written after that revision."""
        return await cls.open(nc, js, stream, subject, after=after, policy=DeliverPolicy.LAST_PER_SUBJECT)


def _is_end(message: Msg) -> bool:
    """Whether this is the server's word that there is no (more) message; any other word is an error."""
    status = (message.headers or {}).get("Status")
    if status is None:
        return False
    if status not in _NO_MORE:
        raise nats.js.errors.Error(f"pull ended with {status}")
    return True
