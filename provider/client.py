"""The typed asyncio client over the bus: what the CLI and the demo use, and a Python orchestrator would.

    async with PreviewClient.connect() as client:
        deployed = await client.deploy("acme/shop", "main")
        print(deployed.url)

A deploy takes minutes, and in minutes connections break and providers restart. So every request has one
inbox for all its repetitions, is repeated as soon as the connection is back (and now and then, in case an
answer was lost), and a deploy always has a `deploy_id`, by which the provider never runs it twice.

What comes back, and the errors that are raised, stand in `provider.answers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import SecretStr

from provider.answers import (
    Answer,
    BadAnswer,
    BusUnreachable,
    Cancelled,
    ClientError,
    Deployed,
    Event,
    FailureForm,
    Listing,
    NoProvider,
    PreviewFailed,
    Record,
    TimedOut,
    TornDown,
    Validated,
)
from provider.bus.subjects import Subjects
from provider.errors import Code
from provider.settings import Settings

__all__ = [
    "Answer",
    "BadAnswer",
    "BusUnreachable",
    "Cancelled",
    "ClientError",
    "Deployed",
    "Event",
    "FailureForm",
    "Listing",
    "NoProvider",
    "PreviewClient",
    "PreviewFailed",
    "Record",
    "TimedOut",
    "TornDown",
    "Validated",
    "new_deploy_id",
    "shown_url",
]

DEPLOY_TIMEOUT = 1200.0
QUICK_TIMEOUT = 30.0
TEARDOWN_TIMEOUT = 120.0
_HEADERS_ROOM = 64 * 1024
_NOBODY_PAUSE = 0.25
_SCHEMES = ("nats", "tls", "ws", "wss")


# ----------------------------------------------------------------------------- client

AnswerT = TypeVar("AnswerT", bound=Answer)
SecretText = str | SecretStr
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


class PreviewClient:
    """Asks a provider over one NATS connection. Made by `connect`; safe for concurrent calls.

    Args:
        nats: an open connection; it stays the caller's to close.
        subject_prefix: where the provider listens.
        provider_patience: seconds for which an absent provider is waited for.
        repeat_seconds: how often a request is repeated while its answer is outstanding.
    """

    def __init__(
        self, nats: Nats, *, subject_prefix: str, provider_patience: float = 5.0, repeat_seconds: float = 30.0
    ) -> None:
        self._nats = nats
        self._subjects = Subjects(subject_prefix)
        self._patience = provider_patience
        self._repeat_seconds = repeat_seconds
        self._waiting: set[_Mail] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        settings: Settings | None = None,
        *,
        nats_url: str | None = None,
        subject_prefix: str | None = None,
        credentials_file: Path | None = None,
        connect_seconds: float = 5.0,
        provider_patience: float = 5.0,
        repeat_seconds: float = 30.0,
    ) -> AsyncIterator[Self]:
        """A connected client, closed at the end.

        URL (user and password may stand in it), prefix and TLS files come from `settings` (default: the
        environment) where they are not given. Raises BusUnreachable after `connect_seconds`.
        """
        settings = settings or Settings()
        client = cls(
            Nats(),
            subject_prefix=subject_prefix or settings.subject_prefix,
            provider_patience=provider_patience,
            repeat_seconds=repeat_seconds,
        )
        url = nats_url or settings.nats_url
        try:
            await client._open(url, _tls(settings), credentials_file, connect_seconds)
            yield client
        finally:
            # The library asserts that it began to connect; with an unusable URL or TLS file it did not.
            with contextlib.suppress(AssertionError):
                await client._nats.close()

    @property
    def nats(self) -> Nats:
        """The connection, for what this client has no method for."""
        return self._nats

    @property
    def subjects(self) -> Subjects:
        """The subjects that this client asks."""
        return self._subjects

    async def deploy(
        self,
        repo_full_name: str,
        branch: str,
        *,
        commit_sha: str | None = None,
        preview_yaml: str | None = None,
        installation_id: int | None = None,
        secret_values: Mapping[str, SecretText] | None = None,
        extra_env: Mapping[str, SecretText] | None = None,
        alias_hosts: Iterable[str] = (),
        acceptance: Iterable[Mapping[str, Any]] = (),
        session_id: str | None = None,
        notify: bool = False,
        wait: Literal["ready", "accepted"] = "ready",
        deploy_id: str | None = None,
        ttl_seconds: int | None = None,
        budget_seconds: float | None = None,
        dry_run: bool = False,
        timeout: float = DEPLOY_TIMEOUT,
        on_event: Callable[[Event], None] | None = None,
    ) -> Deployed:
        """Deploy a commit and wait for the outcome; the arguments are the fields of the contract's "provision".

        `deploy_id`, the idempotency key, is made if not given. `timeout` are seconds in all, over every
        repetition. `on_event` is called with this deploy's events while it is waited for.
        Raises PreviewFailed, TimedOut, NoProvider, BusUnreachable, BadAnswer.
        """
        deploy_id = deploy_id or new_deploy_id()
        body = {
            "repo_full_name": repo_full_name,
            "branch": branch,
            "commit_sha": commit_sha,
            "preview_yaml": preview_yaml,
            "installation_id": installation_id,
            "secret_values": _plain(secret_values),
            "extra_env": _plain(extra_env),
            "alias_hosts": list(alias_hosts),
            "acceptance": [dict(check) for check in acceptance],
            "session_id": session_id,
            "notify": notify,
            "wait": None if wait == "ready" else wait,
            "deploy_id": deploy_id,
            "ttl_seconds": ttl_seconds,
            "budget_seconds": budget_seconds,
            "dry_run": dry_run,
        }
        async with self._telling(on_event, deploy_id):
            return await self._ask("provision", body, Deployed, timeout)

    async def teardown(self, slug: str, *, timeout: float = TEARDOWN_TIMEOUT) -> TornDown:
        """Remove a preview and everything of it; can be repeated."""
        return await self._ask("teardown", {"slug": slug}, TornDown, timeout)

    async def validate(
        self,
        repo_full_name: str,
        branch: str,
        *,
        commit_sha: str | None = None,
        preview_yaml: str | None = None,
        installation_id: int | None = None,
        timeout: float = TEARDOWN_TIMEOUT,
    ) -> Validated:
        """What a deploy would make; nothing is built, applied or recorded."""
        body = {
            "repo_full_name": repo_full_name,
            "branch": branch,
            "commit_sha": commit_sha,
            "preview_yaml": preview_yaml,
            "installation_id": installation_id,
        }
        return await self._ask("validate", body, Validated, timeout)

    async def status(
        self, slug: str | None = None, *, deploy_id: str | None = None, timeout: float = QUICK_TIMEOUT
    ) -> Record:
        """The record of a preview (by slug) or of a deploy."""
        return await self._ask("status", {"slug": slug, "deploy_id": deploy_id}, Record, timeout)

    async def list(
        self,
        *,
        repo: str | None = None,
        branch: str | None = None,
        session_id: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        timeout: float = QUICK_TIMEOUT,
    ) -> Listing:
        """One page of the previews that match."""
        body = {"repo": repo, "branch": branch, "session_id": session_id, "state": state}
        return await self._ask("list", {**body, "limit": limit, "after": after}, Listing, timeout)

    async def cancel(
        self, slug: str | None = None, *, deploy_id: str | None = None, timeout: float = QUICK_TIMEOUT
    ) -> Cancelled:
        """Stop a deploy; by slug: the one that is under way."""
        # By slug it is not repeated once somebody has it: a repetition could hit the deploy that came after.
        body = {"slug": slug, "deploy_id": deploy_id}
        return await self._ask("cancel", body, Cancelled, timeout, repeat=deploy_id is not None)

    async def events(
        self, slug: str | None = None, *, deploy_id: str | None = None, since: datetime | None = None
    ) -> AsyncIterator[Event]:
        """Events as they happen; with `since`, first those that the bus kept since then (needs JetStream).

        A deploy's first events come before its slug is known: ask by `deploy_id` to see all of them.
        """
        subject = self._subjects.all_events if deploy_id or not slug else self._subjects.events(slug)
        try:
            subscription = await self._subscribe_events(subject, since)
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"cannot read events: {error!r}") from error
        try:
            async for message in subscription.messages:
                event = _event(message.data)
                if event and (deploy_id is None or event.deploy_id == deploy_id):
                    yield event
            raise BusUnreachable("the connection to NATS is closed")
        finally:
            await self._unsubscribe(subscription)

    # ------------------------------------------------------------------ asking

    async def _ask(
        self, name: str, body: dict[str, Any], kind: type[AnswerT], timeout: float, *, repeat: bool = True
    ) -> AnswerT:
        """Ask until an answer came or `timeout` seconds passed; `repeat=False`: once a provider has it, only wait."""
        subject, payload, seen = self._subjects.request(name), self._payload(body), _Seen()
        try:
            async with asyncio.timeout(timeout), self._inbox() as (inbox, mail):
                message = await self._exchange(subject, payload, inbox, mail, seen, repeat=repeat)
        except TimeoutError:
            raise self._too_late(subject, timeout, body.get("deploy_id"), seen) from None
        except (NatsError, OSError) as error:
            raise BusUnreachable(f"the connection to NATS failed: {error!r}") from error
        return kind.read(_decode(message, subject))

    async def _exchange(
        self, subject: str, payload: bytes, inbox: str, mail: _Mail, seen: _Seen, *, repeat: bool
    ) -> Msg:
        """Publish, and again where that is needed, until the first message that is an answer."""
        send = True
        while True:
            if send:
                await self._nats.publish(subject, payload, reply=inbox)
            message = await _next(mail, self._repeat_seconds)
            if message is None:
                seen.nothing(connected=self._nats.is_connected)
                send = repeat
            elif isinstance(message, BusUnreachable):
                # What NATS forbids of something else (another request, the events) is not this one's problem.
                if self._nats.is_closed or subject in str(message) or inbox in str(message):
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
        if not self._nats.is_connected:
            state = "; the connection to NATS is down"
        return TimedOut(f"no answer from {subject} within {timeout:g} s{state}", deploy_id)

    @contextlib.asynccontextmanager
    async def _inbox(self) -> AsyncIterator[tuple[str, _Mail]]:
        """An inbox of this request alone: whichever repetition is answered, and whenever, it is found here."""
        mail: _Mail = asyncio.Queue()
        inbox = self._nats.new_inbox()

        async def arrived(message: Msg) -> None:
            mail.put_nowait(message)

        subscription = await self._nats.subscribe(inbox, cb=arrived)
        self._waiting.add(mail)
        try:
            yield inbox, mail
        finally:
            self._waiting.discard(mail)
            await self._unsubscribe(subscription)

    def _payload(self, body: dict[str, Any]) -> bytes:
        """The request as bytes, without what is absent. Raises PreviewFailed if NATS would not carry it."""
        # The NATS client closes for good on a message over the limit, headers included: never get there.
        present = {key: value for key, value in body.items() if not _absent(value)}
        payload = json.dumps(present).encode()
        limit = self._nats.max_payload
        limit = limit - _HEADERS_ROOM if limit > 2 * _HEADERS_ROOM else limit
        if len(payload) > limit:
            message = f"the request has {len(payload)} bytes, but this bus carries at most {limit}"
            form = {"ok": False, "code": Code.BAD_REQUEST_DECODE.value, "message": message}
            raise PreviewFailed(FailureForm.read(form))
        return payload

    # ------------------------------------------------------------- connection

    async def _open(self, url: str, tls: ssl.SSLContext | None, credentials_file: Path | None, seconds: float) -> None:
        """Connect within `seconds`: the library itself tries forever, also with wrong credentials."""
        servers = [part.strip() for part in url.split(",")]
        if any("://" in part and part.partition("://")[0] not in _SCHEMES for part in servers):
            raise BusUnreachable(f"{shown_url(url)} is not a NATS URL: it begins with none of {', '.join(_SCHEMES)}")
        problems: list[Exception] = []

        async def failed(error: Exception) -> None:
            # What follows a refusal (a cut connection) says less than the refusal itself.
            if not any("authorization" in str(problem).lower() for problem in problems):
                problems[:] = [error]
            if "permissions violation" in str(error).lower():
                self._wake(BusUnreachable(f"NATS refuses it: {error}"))

        async def reconnected() -> None:
            self._wake(None)

        async def closed() -> None:
            self._wake(BusUnreachable(f"the connection to NATS is closed: {problems[-1] if problems else 'for good'}"))

        options: dict[str, Any] = {"tls": tls} if tls else {}
        if credentials_file:
            options["user_credentials"] = str(credentials_file)
        try:
            async with asyncio.timeout(seconds):
                await self._nats.connect(
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
        except (TimeoutError, NatsError, OSError, ValueError) as error:
            cause = problems[-1] if problems else error
            raise BusUnreachable(
                f"cannot connect to NATS at {shown_url(url)}: {cause or type(cause).__name__}"
            ) from None

    def _wake(self, signal: BusUnreachable | None) -> None:
        """Tell every waiting request that the connection is back (None), or what is wrong with it."""
        for mail in self._waiting:
            mail.put_nowait(signal)

    # ----------------------------------------------------------------- events

    @contextlib.asynccontextmanager
    async def _telling(self, on_event: Callable[[Event], None] | None, deploy_id: str) -> AsyncIterator[None]:
        """Have `on_event` called with the deploy's events; subscribed before the deploy is asked for."""
        if on_event is None:
            yield
            return

        async def arrived(message: Msg) -> None:
            event = _event(message.data)
            if event and event.deploy_id == deploy_id:
                on_event(event)

        subscription = await self._nats.subscribe(self._subjects.all_events, cb=arrived)
        try:
            yield
        finally:
            await self._unsubscribe(subscription)

    async def _subscribe_events(self, subject: str, since: datetime | None) -> Subscription:
        if since is None:
            return await self._nats.subscribe(subject)
        start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since.astimezone(UTC))
        stream = self._subjects.events_stream
        return await self._nats.jetstream().subscribe(subject, stream=stream, ordered_consumer=True, config=start)

    async def _unsubscribe(self, subscription: Subscription) -> None:
        # On a closed connection there is nothing left to unsubscribe from.
        with contextlib.suppress(NatsError):
            await subscription.unsubscribe()


# ---------------------------------------------------------------------------- helpers


def new_deploy_id() -> str:
    """An idempotency key that nobody else has."""
    return f"d-{uuid.uuid4().hex}"


def shown_url(url: str) -> str:
    """The NATS URL as it may be shown: without user, password or token."""
    # No URL parser: this is for showing what may be no URL at all.
    return ",".join(re.sub(r"^([a-z]+://)?.*@", r"\1", part.strip()) for part in url.split(","))


def _absent(value: object) -> bool:
    """Whether a field need not be sent: nothing, no, or empty. Zero is a value."""
    return value is None or value is False or value in ([], {})


def _plain(values: Mapping[str, SecretText] | None) -> dict[str, str]:
    """Secrets as they go over the bus."""
    items = (values or {}).items()
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in items}


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS side of the connection, or None where no TLS file is set."""
    if not (settings.nats_ca_file or settings.nats_client_cert):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.nats_ca_file)
        if settings.nats_client_cert:
            context.load_cert_chain(settings.nats_client_cert, settings.nats_client_key)
    except (OSError, ssl.SSLError) as error:
        files = "NATS_CA_FILE, NATS_CLIENT_CERT, NATS_CLIENT_KEY"
        raise BusUnreachable(f"cannot use the TLS files of {files}: {error}") from error
    return context


async def _next(mail: _Mail, seconds: float) -> Msg | BusUnreachable | None:
    """The next thing in the mailbox; None also after `seconds` without any."""
    try:
        return await asyncio.wait_for(mail.get(), seconds)
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


def _event(data: bytes) -> Event | None:
    """The event that a message is; None for what is not one, since anybody may publish there."""
    try:
        return Event.read(json.loads(data))
    except (ValueError, RecursionError, BadAnswer):
        return None
