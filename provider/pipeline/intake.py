"""Taking requests in: nothing is promised before the record exists, and nothing is taken twice."""

from __future__ import annotations

import uuid
from datetime import timedelta

from provider.errors import Code, Permanent
from provider.models import DeployRecord, Owner, ProvisionRequest, StoredRequest, Waiter, digest_of, now
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.store import DeployExists


class Intake:
    """Turns a decoded request into a deploy record, and hands it to the runner."""

    def __init__(self, ctx: Context, runner: Runner, owner: Owner) -> None:
        self._ctx = ctx
        self._runner = runner
        self._owner = owner

    async def accept(self, request: ProvisionRequest, reply: str | None, warnings: tuple[str, ...]) -> DeployRecord:
        """Accept a request: from the return on, whoever waits at `reply` gets the final answer.

        Args:
            request: decoded and checked.
            reply: where the final answer goes; None when nobody waits for it.
            warnings: what decoding noticed.

        Raises:
            Permanent: `conflict` when the deploy id was used for a different request.
        """
        staged = uuid.uuid4().hex
        checksum = await self._ctx.platform.stage_secrets(staged, request.secret_values_only())
        stored = request.stored(checksum)
        record = self._record(request, stored, staged, reply, warnings)
        try:
            created = await self._ctx.store.create_deploy(record)
        except DeployExists as known:
            created = await self._again(record, known.existing, staged)
        except BaseException:
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
            update={"deploy_id": f"{record.deploy_id}.{uuid.uuid4().hex[:8]}", "joins": existing.deploy_id, "staged": ""}
        )
        return await self._ctx.store.create_deploy(repeat)

    def _record(
        self,
        request: ProvisionRequest,
        stored: StoredRequest,
        staged: str,
        reply: str | None,
        warnings: tuple[str, ...],
    ) -> DeployRecord:
        created = now()
        budget = min(request.budget_seconds or self._ctx.settings.budget_seconds, self._ctx.settings.budget_seconds)
        until = created + timedelta(seconds=self._ctx.settings.reply_deadline)
        return DeployRecord(
            platform_id=self._ctx.settings.platform_id,
            deploy_id=request.deploy_id or uuid.uuid4().hex,
            owner=self._owner,
            fingerprint=digest_of(stored.model_dump(mode="json", exclude={"wait"})),
            staged=staged,
            request=stored,
            waiters=(Waiter(reply=reply, deadline=until),) if reply else (),
            created_at=created,
            deadline=created + timedelta(seconds=budget),
            warnings=warnings,
        )
