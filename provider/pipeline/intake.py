"""Taking requests in: nothing is promised before the record exists, and nothing is taken twice."""

from __future__ import annotations

import uuid
from datetime import timedelta

from provider.errors import Code, Permanent, PreviewError
from provider.models import DeployRecord, Owner, SecretValues, StoredRequest, Waiter, now
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.store import DeployExists


class Intake:
    """Turns a decoded request into a deploy record, and hands it to the runner."""

    def __init__(self, ctx: Context, runner: Runner, owner: Owner) -> None:
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
        warnings: tuple[str, ...],
    ) -> DeployRecord:
        """Accept a request: from the return on, whoever waits at `reply` gets the final answer.

        Args:
            request: decoded and checked.
            secrets: its inline values; they are staged before the record exists.
            deploy_id: the caller's idempotency key, if it sent one.
            reply: where the final answer goes; None when nobody waits for it.
            warnings: what decoding noticed.

        Raises:
            Permanent: `conflict` when the deploy id was used for a different request.
        """
        staged = uuid.uuid4().hex
        checksum = await self._ctx.platform.stage_secrets(staged, secrets)
        stored = request.model_copy(update={"secrets_checksum": checksum})
        record = self._record(stored, staged, deploy_id or uuid.uuid4().hex, reply, warnings)
        try:
            created = await self._ctx.store.create_deploy(record)
        except DeployExists as known:
            created = await self._again(record, known.existing, staged)
        except PreviewError:
            await self._ctx.platform.drop_staged(staged)
            raise
        self._runner.start(created)
        return created

    async def _again(self, record: DeployRecord, existing: DeployRecord, staged: str) -> DeployRecord:
        """A repeated request: it gets the answer of the first one, by a record of its own."""
        await self._ctx.platform.drop_staged(staged)
        if existing.fingerprint != record.fingerprint:
            raise Permanent(
                Code.CONFLICT,
                f"deploy_id {record.deploy_id!r} was used for a different request.",
                reason="DeployIdReused",
                hint="Use a new deploy_id for a new request; repeat one only with the same fields.",
            )
        repeat = record.model_copy(
            update={
                "deploy_id": f"{record.deploy_id}.{uuid.uuid4().hex[:8]}",
                "joins": existing.deploy_id,
                "staged": "",
            }
        )
        return await self._ctx.store.create_deploy(repeat)

    def _record(
        self, request: StoredRequest, staged: str, deploy_id: str, reply: str | None, warnings: tuple[str, ...]
    ) -> DeployRecord:
        created = now()
        settings = self._ctx.settings
        budget = min(request.budget_seconds or settings.budget_seconds, settings.budget_seconds)
        until = created + timedelta(seconds=settings.reply_deadline)
        return DeployRecord(
            platform_id=settings.platform_id,
            deploy_id=deploy_id,
            owner=self._owner,
            fingerprint=request.fingerprint(),
            staged=staged,
            request=request,
            waiters=(Waiter(reply=reply, deadline=until),) if reply else (),
            created_at=created,
            deadline=created + timedelta(seconds=budget),
            warnings=warnings,
        )
