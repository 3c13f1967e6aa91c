"""Requests over a connection that may break: one inbox a request, repeated until it is answered.

This is what `provider.client` asks with. It knows JSON and the contract's two forms of an answer, but no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from provider.answers import (
    BadAnswer,
    BusUnreachable,
    ClientError,
    FailureForm,
    NoProvider,
    PreviewFailed,
    TimedOut,
)
from provider.bus.identity import identity, let_go
from provider.errors import Code, PreviewError
from provider.settings import Settings

_HEADERS_ROOM = 64 * 1024
_NOBODY_PAUSE = 0.25
_SCHEMES = ("nats", "tls", "ws", "wss")
_Mail = asyncio.Queue[Msg | BusUnreachable | None]
"""What one request waits for: a message, the end of the connection, or (None) its return."""


@dataclass(slots=True)
class _Seen:
    """What one request has seen of the provider so far."""

    taken: bool = False
    alone_since: float | None = None

    def nothing(self, *, connected: bool) -> None:
        """Nobody refused the request, so a provider has it: from now on an absent one is one that restarts."""
        self.taken = self.taken or connected
        self.alone_since = None

    def nobody(self) -> float:
        """The server said that nobody listens; returns for how many seconds it has been saying so."""
        self.alone_since = self.alone_since or time.monotonic()
        return time.monotonic() - self.alone_since


class Exchange:
    """Asks over one connection; safe for concurrent calls.

    Args:
        nats: the connection; opened by `open`.
        patience: seconds for which an absent provider is waited for.
        repeat_seconds: how often a request is repeated while its answer is outstanding.
    """

    def __init__(self, nats: Nats, *, patience: float, repeat_seconds: float) -> None:
        self.nats = nats
        self._patience = patience
        self._repeat_seconds = repeat_seconds
        self._waiting: set[_Mail] = set()

    async def ask(self, subject: str, body: dict[str, Any], timeout: float, *, repeat: bool = True) -> dict[str, Any]:
        """Ask until an answer came or `timeout` seconds passed; returns a successful reply's JSON.

        `repeat=False`: once a provider has the request, only wait.
        """
        payload, seen = self._payload(body), _Seen()
        try:
            async with asyncio.timeout(timeout), self._inbox() as (inbox, mail):
                message = await self._exchange(subject, payload, inbox, mail, seen, repeat=repeat)
        except TimeoutError:
            raise self._too_late(subject, timeout, body.get("deploy_id"), seen) from None
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"the connection to NATS failed: {error!r}") from error
        return _decode(message, subject)

    async def _exchange(
        self, subject: str, payload: bytes, inbox: str, mail: _Mail, seen: _Seen, *, repeat: bool
    ) -> Msg:
        """Publish, and again where that is needed, until the first message that is an answer."""
        send = True
        while True:
            if send:
                await self.nats.publish(subject, payload, reply=inbox)
            message = await _next(mail, self._repeat_seconds)
            if message is None:
                seen.nothing(connected=self.nats.is_connected)
                send = repeat
            elif isinstance(message, BusUnreachable):
                # What NATS forbids of something else (another request, the events) is not this one's problem.
                if self.nats.is_closed or subject in str(message) or inbox in str(message):
                    raise message
                send = False
            elif not _nobody_there(message):
                return message
            else:
                if seen.nobody() >= self._patience and not seen.taken:
                    raise NoProvider(f"no provider listens on {subject}")
                await asyncio.sleep(_NOBODY_PAUSE)
                send = True

    def _too_late(self, subject: str, timeout: float, deploy_id: str | None, seen: _Seen) -> ClientError:
        """What to say at the end of `timeout`."""
        if seen.alone_since is not None and not seen.taken:
            return NoProvider(f"no provider listens on {subject}")
        state = "; no provider listens there any more" if seen.alone_since is not None else ""
        if not self.nats.is_connected:
            state = "; the connection to NATS is down"
        return TimedOut(f"no answer from {subject} within {timeout:g} s{state}", deploy_id)

    @contextlib.asynccontextmanager
    async def _inbox(self) -> AsyncIterator[tuple[str, _Mail]]:
        """An inbox of this request alone: whichever repetition is answered, and whenever, it is found here."""
        mail: _Mail = asyncio.Queue()
        inbox = self.nats.new_inbox()

        async def arrived(message: Msg) -> None:
            mail.put_nowait(message)

        subscription = await self.nats.subscribe(inbox, cb=arrived)
        self._waiting.add(mail)
        try:
            yield inbox, mail
        finally:
            self._waiting.discard(mail)
            await unsubscribe(subscription)

    def _payload(self, body: dict[str, Any]) -> bytes:
        """The request as bytes, without what is absent. Raises PreviewFailed if NATS would not carry it."""
        # The NATS client closes for good on a message over the limit, headers included: never get there.
        present = {key: value for key, value in body.items() if not _absent(value)}
        payload = json.dumps(present).encode()
        limit = self.nats.max_payload
        limit = limit - _HEADERS_ROOM if limit > 2 * _HEADERS_ROOM else limit
        if len(payload) > limit:
            message = f"the request has {len(payload)} bytes, but this bus carries at most {limit}"
            form = {"ok": False, "code": Code.BAD_REQUEST_DECODE.value, "message": message}
            raise PreviewFailed(FailureForm.read(form))
        return payload

    async def open(self, settings: Settings, seconds: float) -> None:
        """Connect within `seconds`: the library itself tries forever, also with wrong credentials."""
        url = settings.nats_url
        servers = [part.strip() for part in url.split(",")]
        if any("://" in part and part.partition("://")[0] not in _SCHEMES for part in servers):
            raise BusUnreachable(f"{shown_url(url)} is not a NATS URL: it begins with none of {', '.join(_SCHEMES)}")
        problems: list[Exception] = []

        async def failed(error: Exception) -> None:
            let_go(self.nats)
            # What follows a refusal (a cut connection) says less than the refusal itself.
            if not any("authorization" in str(problem).lower() for problem in problems):
                problems[:] = [error]
            if "permissions violation" in str(error).lower():
                self._wake(BusUnreachable(f"NATS refuses it: {error}"))

        async def reconnected() -> None:
            self._wake(None)

        async def closed() -> None:
            self._wake(BusUnreachable(f"the connection to NATS is closed: {problems[-1] if problems else 'for good'}"))

        try:
            options = identity(settings, self.nats)
            async with asyncio.timeout(seconds):
                await self.nats.connect(
                    servers=servers,
                    name="preview-client",
                    error_cb=failed,
                    reconnected_cb=reconnected,
                    closed_cb=closed,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated int, but only slept
                    ping_interval=15,
                    **options,
                )
        except PreviewError as error:
            raise BusUnreachable(f"{error.message} {error.hint}") from None
        except (TimeoutError, NatsError, OSError, ValueError) as error:
            cause = problems[-1] if problems else error
            raise BusUnreachable(
                f"cannot connect to NATS at {shown_url(url)}: {cause or type(cause).__name__}"
            ) from None

    def _wake(self, signal: BusUnreachable | None) -> None:
        """Tell every waiting request that the connection is back (None), or what is wrong with it."""
        for mail in self._waiting:
            mail.put_nowait(signal)


async def unsubscribe(subscription: Subscription) -> None:
    """End a subscription; on a closed connection there is nothing left to end."""
    with contextlib.suppress(NatsError):
        await subscription.unsubscribe()


def shown_url(url: str) -> str:
    """The NATS URL as it may be shown: without user, password or token."""
    # No URL parser: this is for showing what may be no URL at all.
    return ",".join(re.sub(r"^([a-z]+://)?.*@", r"\1", part.strip()) for part in url.split(","))


def _absent(value: object) -> bool:
    """Whether a field need not be sent: nothing, no, or empty. Zero is a value."""
    return value is None or value is False or value in ([], {})


async def _next(mail: _Mail, seconds: float) -> Msg | BusUnreachable | None:
    """The next thing in the mailbox; None also after `seconds` without any."""
    try:
        async with asyncio.timeout(seconds):
            return await mail.get()
    except TimeoutError:
        return None


def _nobody_there(message: Msg) -> bool:
    """Whether the server itself answered that nobody listens on the subject."""
    return not message.data and (message.headers or {}).get("Status") == "503"


def _decode(message: Msg, subject: str) -> dict[str, Any]:
    """A successful reply's JSON object. Raises PreviewFailed for a failure form, BadAnswer for anything else."""
    refused = (message.headers or {}).get("Nats-Service-Error")
    if refused and not message.data:
        raise BadAnswer(f"{subject} answered with an error of the service: {refused}")
    try:
        reply = json.loads(message.data)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"{subject} answered something that is not JSON") from error
    if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
        raise BadAnswer(f"{subject} answered JSON that is not the contract's form")
    if not reply["ok"]:
        raise PreviewFailed(FailureForm.read(reply))
    return reply
