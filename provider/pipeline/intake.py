"""Taking requests in: nothing is promised before the record exists, and nothing is taken twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import DeployRecord, Owner, SecretValues, StoredRequest, TraceContext, Waiter
from provider.pipeline.context import Context
from provider.pipeline.ending import repeat, tolerate
from provider.pipeline.logbook import plain
from provider.pipeline.runner import Runner
from provider.store import DeployExists, Lost

T = TypeVar("T")
log = structlog.get_logger(__name__)

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries to stage secrets, or to create a record."""


class Intake:
    """Turns a decoded request into a deploy record, and hands it to the runner."""

    def __init__(self, ctx: Context, runner: Runner, owner: Callable[[], Owner]) -> None:
        self._ctx = ctx
        self._runner = runner
        self._owner = owner

    async def accept(
        self,
        request: StoredRequest,
        secrets: SecretValues,
        *,
        deploy_id: str | None,
        reply: str | None,
        received_at: datetime,
        warnings: tuple[str, ...],
        trace: TraceContext | None = None,
    ) -> DeployRecord:
        """Accept a request: from the return on, whoever waits at `reply` gets the final answer.

        A request that is repeated while its deploy has a record is not refused for what fails here: its asker was
        promised one answer, and waits for it.

        Args:
            request: decoded and checked.
            secrets: its inline values; they are staged before the record exists.
            deploy_id: the caller's idempotency key, if it sent one.
            reply: where the final answer goes; None when nobody waits for it.
            received_at: when it came; the budget counts from there.
            warnings: what decoding noticed.
            trace: the caller's, or our part of it.

        Raises:
            Permanent: `conflict` when the deploy id was used for a different request.
            Temporary: `queue_full`.
        """
        deploy_id = deploy_id or uuid.uuid4().hex
        reserved = await self._reserved(deploy_id, request)
        accepted = ""
        try:
            record = await self._accepted(request, secrets, deploy_id, reply, received_at, warnings, trace)
            accepted = record.deploy_id
        finally:
            if reserved and accepted != deploy_id:
                self._ctx.line.give_back(deploy_id)
        return record

    async def _reserved(self, deploy_id: str, request: StoredRequest) -> bool:
        """Whether a place was reserved; a full line does not keep a request from being repeated."""
        try:
            return await self._ctx.line.reserve(deploy_id, request.repo_full_name, self._owner().instance)
        except Temporary:
            if not await self._is_accepted(deploy_id):
                raise
            return False

    async def _is_accepted(self, deploy_id: str) -> bool:
        """Whether there is a record; a store that does not answer is asked until it does."""
        return await repeat(lambda: self._ctx.store.get_deploy(deploy_id)) is not None

    async def _accepted(
        self,
        request: StoredRequest,
        secrets: SecretValues,
        deploy_id: str,
        reply: str | None,
        received_at: datetime,
        warnings: tuple[str, ...],
        trace: TraceContext | None,
    ) -> DeployRecord:
        staged = uuid.uuid4().hex
        checksum = await self._staged(staged, secrets, deploy_id)
        stored = request.model_copy(update={"secrets_checksum": checksum})
        waiters = self._waiters(reply, received_at)
        record = self._record(stored, staged if checksum else "", deploy_id, waiters, received_at, warnings, trace)
        try:
            created = await self._create(record)
        except DeployExists as known:
            return await self._again(record, known.existing)
        except PreviewError:
            await tolerate(self._ctx.platform.drop_staged(record.staged))
            raise
        log.info("deploy.accepted", deploy_id=created.deploy_id, repo=request.repo_full_name, branch=request.branch)
        self._ctx.logbook.learn(created.deploy_id, plain(secrets))
        self._runner.start(created)
        return created

    async def _staged(self, staged: str, secrets: SecretValues, deploy_id: str) -> str:
        """Stage the secrets; returns their checksum."""
        while True:
            try:
                return await _tried(lambda: self._ctx.platform.stage_secrets(staged, secrets))
            except Temporary:
                if not await self._is_accepted(deploy_id):
                    raise

    async def _create(self, record: DeployRecord) -> DeployRecord:
        """Create it, repeating the very same record: a write that timed out may have been done all the same.

        Refused is only what is known to be not there: a refusal would be one answer, what comes of the record another.
        """
        try:
            return await _tried(lambda: self._ctx.store.create_deploy(record))
        except Temporary:
            if not await self._is_accepted(record.deploy_id):
                raise
            return await repeat(lambda: self._ctx.store.create_deploy(record))

    async def _again(self, record: DeployRecord, existing: DeployRecord) -> DeployRecord:
        """A repeated request: it gets the answer of the first one, by a record of its own.

        The first one is run by its owner, who may be another provider: to run it here, too, would do it twice.
        """
        await tolerate(self._ctx.platform.drop_staged(record.staged))  # what stays is for the sweep
        if existing.fingerprint != record.fingerprint:
            raise Permanent(
                Code.CONFLICT,
                f"deploy_id {record.deploy_id!r} was used for a different request.",
                reason="DeployIdReused",
                hint="Use a new deploy_id for a new request; repeat one only with the same fields.",
            )
        asked = {waiter.reply for waiter in existing.waiters if not waiter.answered}
        if existing.report is None and asked >= {waiter.reply for waiter in record.waiters}:
            return await self._adopted(existing)
        await self._adopted(existing)
        own = f"{record.deploy_id}.{uuid.uuid4().hex[:8]}"
        joining = record.model_copy(update={"deploy_id": own, "joins": existing.deploy_id, "staged": ""})
        created = await repeat(lambda: self._ctx.store.create_deploy(joining))
        self._runner.start(created)
        return created

    async def _adopted(self, existing: DeployRecord) -> DeployRecord:
        """A deploy of ours that nobody runs (its creation seemed to fail) is run now.

        It is taken as any other is, by compare-and-set: another provider may be taking it over from a process that
        had our name before.
        """
        if (
            existing.report is not None
            or existing.owner.instance != self._owner().instance
            or self._runner.is_running(existing.deploy_id)
        ):
            return existing
        for orphan in await self._ctx.store.unfinished_deploys():
            if orphan.deploy_id == existing.deploy_id and orphan.owner.instance == self._owner().instance:
                await self._take(orphan.model_copy(update={"owner": self._owner()}))
        return existing

    async def _take(self, orphan: DeployRecord) -> None:
        try:
            await self._ctx.store.save_deploy(orphan)
        except Lost:
            return
        self._runner.start(orphan)

    def _waiters(self, reply: str | None, received_at: datetime) -> tuple[Waiter, ...]:
        until = received_at + timedelta(seconds=self._ctx.settings.reply_deadline)
        return (Waiter(reply=reply, deadline=until),) if reply else ()

    def _record(
        self,
        request: StoredRequest,
        staged: str,
        deploy_id: str,
        waiters: tuple[Waiter, ...],
        received_at: datetime,
        warnings: tuple[str, ...],
        trace: TraceContext | None,
    ) -> DeployRecord:
        settings = self._ctx.settings
        budget = min(request.budget_seconds or settings.budget_seconds, settings.budget_seconds)
        return DeployRecord(
            platform_id=settings.platform_id,
            deploy_id=deploy_id,
            owner=self._owner(),
            fingerprint=request.fingerprint(),
            staged=staged,
            request=request,
            trace=trace,
            waiters=waiters,
            created_at=received_at,
            deadline=received_at + timedelta(seconds=budget),
            warnings=warnings,
        )


async def _tried(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns; it is tried again while its errors are temporary, some times."""
    for pause in (*PAUSES, None):
        try:
            return await work()
        except Temporary as error:
            if pause is None:
                raise
            await asyncio.sleep(error.delay or pause)
    raise AssertionError("unreachable")
