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
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from nats.aio.client import Client as Nats
from pydantic import SecretStr

from provider.answers import (
    Answer,
    BadAnswer,
    BusUnreachable,
    Cancelled,
    ClientError,
    Decided,
    Deployed,
    Event,
    FailureForm,
    Listing,
    Look,
    NoProvider,
    PreviewFailed,
    Record,
    Tenure,
    TimedOut,
    TornDown,
    Validated,
)
from provider.bus.identity import BusClient
from provider.bus.subjects import Subjects
from provider.exchange import Exchange, shown_url
from provider.feed import Feed
from provider.settings import Settings

__all__ = [
    "Answer",
    "BadAnswer",
    "BusUnreachable",
    "Cancelled",
    "ClientError",
    "Decided",
    "Deployed",
    "Event",
    "FailureForm",
    "Listing",
    "Look",
    "NoProvider",
    "PreviewClient",
    "PreviewFailed",
    "Record",
    "Tenure",
    "TimedOut",
    "TornDown",
    "Validated",
    "new_deploy_id",
    "shown_url",
]

DEPLOY_TIMEOUT = 1200.0
QUICK_TIMEOUT = 30.0
TEARDOWN_TIMEOUT = 120.0
POLL_SECONDS = 20.0
"""Of one `wait`: less than the time after which an unanswered request is repeated."""
AGAIN_SECONDS = 0.25


AnswerT = TypeVar("AnswerT", bound=Answer)
SecretText = str | SecretStr


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
        self._exchange = Exchange(nats, patience=provider_patience, repeat_seconds=repeat_seconds)
        self._nats = nats
        self._subjects = Subjects(subject_prefix)
        self._feed = Feed(nats, self._subjects)

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

        URL, prefix and who asks (a credentials file, or what else the settings know) come from `settings` (default:
        the environment) where they are not given. Raises BusUnreachable after `connect_seconds`.
        """
        settings = settings or Settings()
        given = {"nats_url": nats_url, "nats_credentials_file": credentials_file}
        settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
        client = cls(
            BusClient(),
            subject_prefix=subject_prefix or settings.subject_prefix,
            provider_patience=provider_patience,
            repeat_seconds=repeat_seconds,
        )
        try:
            await client._exchange.open(settings, connect_seconds)
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
        force: bool = False,
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
            "force": force,
            "dry_run": dry_run,
        }
        async with self._feed.telling(on_event, deploy_id):
            return await self._ask("provision", body, Deployed, timeout)

    async def teardown(
        self, slug: str, *, session_id: str | None = None, force: bool = False, timeout: float = TEARDOWN_TIMEOUT
    ) -> TornDown:
        """Remove a preview and everything of it; can be repeated. A claimed one: as its session, or by force."""
        return await self._ask("teardown", {"slug": slug, "session_id": session_id, "force": force}, TornDown, timeout)

    async def touch(self, slug: str, *, ttl_seconds: int | None = None, timeout: float = QUICK_TIMEOUT) -> Tenure:
        """Have a preview live on: its time to live begins anew, perhaps with another length (0: for ever)."""
        return await self._ask("touch", {"slug": slug, "ttl_seconds": ttl_seconds}, Tenure, timeout)

    async def claim(
        self, slug: str, session_id: str, ttl_seconds: int, *, force: bool = False, timeout: float = QUICK_TIMEOUT
    ) -> Tenure:
        """For that time the session alone may deploy to the preview or tear it down."""
        body = {"slug": slug, "session_id": session_id, "ttl_seconds": ttl_seconds, "force": force}
        return await self._ask("claim", body, Tenure, timeout)

    async def release(self, slug: str, session_id: str, *, timeout: float = QUICK_TIMEOUT) -> Tenure:
        """Give the session's claim up; without one nothing happens."""
        return await self._ask("release", {"slug": slug, "session_id": session_id}, Tenure, timeout)

    async def attach(
        self, slug: str, session_id: str, *, from_session: str | None = None, timeout: float = QUICK_TIMEOUT
    ) -> Tenure:
        """Make the preview, and the claim in force, the session's; with `from_session` only if it is that one's."""
        body = {"slug": slug, "session_id": session_id, "from_session": from_session}
        return await self._ask("attach", body, Tenure, timeout)

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

    async def wait(
        self,
        slug: str | None = None,
        *,
        deploy_id: str | None = None,
        states: Iterable[str] = (),
        timeout: float = DEPLOY_TIMEOUT,
    ) -> Record:
        """The record, as soon as it is in one of the states (left out: any in which nothing is under way).

        Raises PreviewFailed (`not_found`) when there is no such preview or deploy, or no more; TimedOut.
        """
        deadline = time.monotonic() + timeout
        body: dict[str, Any] = {"slug": slug, "deploy_id": deploy_id, "for": list(states)}
        while True:
            asked, left = time.monotonic(), max(deadline - time.monotonic(), 0.0)
            poll = min(left, POLL_SECONDS)
            record = await self._ask("wait", body | {"timeout_seconds": poll}, Record, left + QUICK_TIMEOUT)
            if not record.reply.get("timed_out"):
                return record
            if time.monotonic() >= deadline:
                raise TimedOut(f"{slug or deploy_id} is still {record.state} after {timeout:g} s", deploy_id)
            if time.monotonic() - asked < poll:  # a provider that ends lets go of everybody
                await asyncio.sleep(AGAIN_SECONDS)

    async def cancel(
        self, slug: str | None = None, *, deploy_id: str | None = None, timeout: float = QUICK_TIMEOUT
    ) -> Cancelled:
        """Stop a deploy; by slug: the one that is under way."""
        # By slug it is not repeated once somebody has it: a repetition could hit the deploy that came after.
        body = {"slug": slug, "deploy_id": deploy_id}
        return await self._ask("cancel", body, Cancelled, timeout, repeat=deploy_id is not None)

    async def approve(
        self, deploy_id: str, by: str, *, note: str | None = None, timeout: float = QUICK_TIMEOUT
    ) -> Decided:
        """Let a deploy go on that the policy holds; the first verdict counts."""
        return await self._ask("approve", {"deploy_id": deploy_id, "by": by, "note": note}, Decided, timeout)

    async def reject(
        self, deploy_id: str, by: str, *, note: str | None = None, timeout: float = QUICK_TIMEOUT
    ) -> Decided:
        """End a deploy that the policy holds; the first verdict counts."""
        return await self._ask("reject", {"deploy_id": deploy_id, "by": by, "note": note}, Decided, timeout)

    async def events(
        self, slug: str | None = None, *, deploy_id: str | None = None, since: datetime | None = None
    ) -> AsyncIterator[Event]:
        """Events as they happen; with `since`, first those that the bus kept since then (needs JetStream).

        A deploy's first events come before its slug is known: ask by `deploy_id` to see all of them.
        """
        async for event in self._feed.follow(slug, deploy_id, since):
            yield event

    async def past_events(
        self, slug: str | None = None, *, deploy_id: str | None = None, since: datetime
    ) -> AsyncIterator[Event]:
        """The events that the bus kept since then, up to now (it keeps a week of them; needs JetStream)."""
        async for event in self._feed.kept(slug, deploy_id, since):
            yield event

    async def introspect(
        self, slug: str | None = None, *, deploy_id: str | None = None, timeout: float = QUICK_TIMEOUT, **asked: Any
    ) -> Look:
        """What can be seen of a preview or deploy; `asked` are the contract's other fields but `follow`."""
        return await self._ask("introspect", {"slug": slug, "deploy_id": deploy_id, **asked}, Look, timeout)

    async def follow(
        self, slug: str | None = None, *, deploy_id: str | None = None, **asked: Any
    ) -> AsyncIterator[Look]:
        """The same, then its logs' lines as they come, until there are no more; a slow reader is waited for."""
        body = {"slug": slug, "deploy_id": deploy_id, **asked, "follow": True}
        async for look in self._feed.look(self._subjects.request("introspect"), body):
            yield look

    async def _ask(
        self, name: str, body: dict[str, Any], kind: type[AnswerT], timeout: float, *, repeat: bool = True
    ) -> AnswerT:
        return kind.read(await self._exchange.ask(self._subjects.request(name), body, timeout, repeat=repeat))


# ---------------------------------------------------------------------------- helpers


def new_deploy_id() -> str:
    """An idempotency key that nobody else has."""
    return f"d-{uuid.uuid4().hex}"


def _plain(values: Mapping[str, SecretText] | None) -> dict[str, str]:
    """Secrets as they go over the bus."""
    items = (values or {}).items()
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in items}
