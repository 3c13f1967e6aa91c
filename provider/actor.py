"""What each request of the contract does: the one place where the bus's requests meet the pipeline.

Every method takes a decoded message and returns the answer as JSON-able data, or None when the answer
comes later by the reply promise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from provider.bus import requests
from provider.bus.endpoints import Handler, Incoming
from provider.bus.queries import ListRequest, TeardownRequest
from provider.errors import Code, InvalidRequest, Permanent, Whose
from provider.models import (
    AcceptedReply,
    CancelReply,
    DeployRecord,
    DeployReply,
    ListReply,
    Owner,
    PreviewRecord,
    PreviewReply,
    PreviewSummary,
    ProvisionRequest,
    TeardownReply,
    ValidateReply,
    now,
)
from provider.pipeline.causes import cancelled, not_found
from provider.pipeline.context import Context
from provider.pipeline.intake import Intake
from provider.pipeline.preflight import preflight
from provider.pipeline.runner import Runner
from provider.pipeline.teardown import teardown
from provider.store.claims import Asker
from provider.store.lifetime import Policy
from provider.tracing import Tracer

Answer = dict[str, Any]
CANCEL_SECONDS = 60.0
"""Longer than the lease of a dead provider, whose deploys another takes over and stops."""
MOST_LISTED_BYTES = 512 << 10


class Actor:
    """Answers the requests of one provider."""

    def __init__(self, *, ctx: Context, runner: Runner, intake: Intake, tracer: Tracer) -> None:
        self._ctx = ctx
        self._runner = runner
        self._intake = intake
        self._policy = Policy.of(ctx.settings)
        self._tracer = tracer

    def handlers(self) -> dict[str, Handler]:
        """The handler of each endpoint."""
        return {
            "provision": self.provision,
            "teardown": self.teardown,
            "validate": self.validate,
            "status": self.status,
            "list": self.list_previews,
            "cancel": self.cancel,
        }

    async def provision(self, incoming: Incoming) -> Answer | None:
        """Accept a deploy; the answer follows when it has ended, unless the caller does not want to wait."""
        warnings = requests.unknown_fields(incoming.body)
        request = _checked(incoming.body, warnings)
        if request.dry_run:
            return await self._preflight(request, warnings)
        waits = request.wait == "ready" and bool(incoming.reply)
        record = await self._intake.accept(
            requests.to_stored(request),
            requests.secret_values(request),
            deploy_id=request.deploy_id,
            reply=incoming.reply if waits else None,
            received_at=incoming.received_at,
            warnings=warnings,
            trace=self._tracer.begin(incoming.trace),
        )
        incoming.notes.update(deploy_id=record.answer_id)
        if waits:
            return None
        return AcceptedReply(deploy_id=record.answer_id, warnings=warnings).wire()

    async def queued(self, incoming: Incoming) -> Answer | None:
        """Accept a deploy from the work queue, which keeps its messages: so no secret may stand in one."""
        secret = sorted(field for field in ("secret_values", "extra_env") if incoming.body.get(field))
        if secret:
            raise InvalidRequest(
                Code.INVALID_REQUEST,
                f"A queued request may not hold {' or '.join(secret)}: the queue is kept on disk.",
                reason="SecretsInQueue",
                hint="Send requests with secrets to `provision`, where they are kept apart from the request.",
                evidence=tuple(f"{field}: must be left out" for field in secret),
            )
        return await self.provision(incoming)

    async def validate(self, incoming: Incoming) -> Answer:
        """What a deploy of this would make; nothing is built, applied or recorded."""
        warnings = requests.unknown_fields(incoming.body)
        return await self._preflight(_checked(incoming.body, warnings), warnings)

    async def _preflight(self, request: ProvisionRequest, warnings: tuple[str, ...]) -> Answer:
        created = now()
        record = DeployRecord(
            platform_id=self._ctx.settings.platform_id,
            deploy_id="preflight",
            owner=Owner(instance="", epoch=0),
            fingerprint="",
            request=requests.to_stored(request),
            created_at=created,
            deadline=created + timedelta(seconds=self._ctx.settings.resolve_timeout),
            warnings=warnings,
        )
        checked, manifests = await preflight(self._ctx, record)
        parsed = self._ctx.spec_of(checked)
        return ValidateReply(
            slug=str(checked.slug),
            url=self._ctx.url(str(checked.slug)),
            commit_sha=checked.commit_sha,
            spec=parsed.model_dump(mode="json", by_alias=True, exclude_none=True),
            warnings=checked.warnings,
            manifests=manifests,
        ).wire()

    async def teardown(self, incoming: Incoming) -> Answer:
        """Remove a preview."""
        asked = requests.query(TeardownRequest, incoming.body)
        removed = await teardown(self._ctx, self._runner, asked.slug, Asker(asked.session_id, asked.force))
        incoming.notes.update(deleted=removed.deleted)
        return TeardownReply(
            slug=asked.slug,
            deleted=tuple(removed.deleted),
            also_deleted=tuple(removed.also_deleted),
            warnings=requests.unknown_fields(incoming.body, TeardownRequest),
        ).wire()

    async def status(self, incoming: Incoming) -> Answer:
        """A preview's or a deploy's record."""
        asked = requests.deploy_or_slug_request(incoming.body)
        if asked.deploy_id is not None:
            return DeployReply.of(await self._deploy(asked.deploy_id)).model_dump(mode="json")
        preview = await self._preview(str(asked.slug))
        return PreviewReply.of(preview, self._policy.expires_at(preview)).model_dump(mode="json")

    async def list_previews(self, incoming: Incoming) -> Answer:
        """A page of previews, by slug: as many as were asked for, but no more than a message can hold."""
        asked = requests.list_request(incoming.body)
        wanted = {
            "repo_full_name": asked.repo,
            "branch": asked.branch,
            "session_id": asked.session_id,
            "state": asked.state,
        }
        matching = [
            preview
            for preview in await self._ctx.store.previews()
            if all(value is None or getattr(preview, field) == value for field, value in wanted.items())
            and (asked.after is None or preview.slug > asked.after)
        ]
        summaries = (PreviewSummary.of(one, self._policy.expires_at(one)) for one in matching[: asked.limit])
        page = _fitting(summaries, MOST_LISTED_BYTES)
        return ListReply(
            previews=page,
            next=page[-1].slug if len(matching) > len(page) else None,
            warnings=requests.unknown_fields(incoming.body, ListRequest),
        ).wire()

    async def cancel(self, incoming: Incoming) -> Answer:
        """Stop a deploy and wait until it has ended; one that has ended already is said to have."""
        asked = requests.deploy_or_slug_request(incoming.body)
        deploy_id = asked.deploy_id or (await self._preview(str(asked.slug))).newest.deploy_id
        record = await self._deploy(deploy_id)
        ended = await self._stopped(record)
        was_cancelled = ended.failure is not None and ended.failure.code is Code.CANCELLED
        incoming.notes.update(deploy_id=ended.deploy_id, slug=ended.slug, cancelled=was_cancelled)
        return CancelReply(deploy_id=ended.deploy_id, slug=ended.slug, cancelled=was_cancelled).wire()

    # ------------------------------------------------------------------ parts

    async def _stopped(self, record: DeployRecord) -> DeployRecord:
        """The deploy after it has ended, here or where another provider runs it."""
        if self._runner.interrupt(record.deploy_id, cancelled("by a cancel request")):
            await self._runner.decided(record.deploy_id)
        elif record.report is None:
            await self._ctx.store.cancels.ask(record.deploy_id)
            try:
                async with asyncio.timeout(CANCEL_SECONDS):
                    return await self._ctx.store.wait_deploy(record.deploy_id, lambda one: one.report is not None)
            except TimeoutError:
                raise _not_stopped(record.deploy_id) from None
        return await self._deploy(record.deploy_id)

    async def _deploy(self, deploy_id: str) -> DeployRecord:
        record = await self._ctx.store.get_deploy(deploy_id)
        if record is None:
            raise not_found("deploy", deploy_id)
        return record

    async def _preview(self, slug: str) -> PreviewRecord:
        preview = await self._ctx.store.get_preview(slug)
        if preview is None or preview.removed_at is not None:
            raise not_found("preview", slug)
        return preview


def _checked(body: dict[str, Any], warnings: tuple[str, ...]) -> ProvisionRequest:
    """The checked request; a refusal also names the unknown fields, which may be misspelt known ones."""
    try:
        return requests.provision_request(body)
    except InvalidRequest as error:
        error.evidence = (*error.evidence, *warnings)
        raise


def _fitting(summaries: Iterable[PreviewSummary], most: int) -> tuple[PreviewSummary, ...]:
    """The first of them that have `most` bytes together; at least one."""
    page: list[PreviewSummary] = []
    for summary in summaries:
        most -= len(summary.model_dump_json())
        if page and most < 0:
            break
        page.append(summary)
    return tuple(page)


def _not_stopped(deploy_id: str) -> Permanent:
    return Permanent(
        Code.PLATFORM_UNREACHABLE,
        f"The deploy {deploy_id} did not end within {CANCEL_SECONDS:g} s.",
        reason="NotStoppedYet",
        hint="It is asked to stop, and does as soon as a provider has it; ask for its status.",
        retryable=True,
        whose=Whose.PLATFORM,
    )
