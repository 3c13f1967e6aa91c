"""The requests `approve` and `reject`: what becomes of a deploy that the policy holds.

The first verdict counts, whichever provider takes it. Who may ask this is the bus's to say, by permissions for these
two subjects: `by` is what the asker says of itself.
"""

from __future__ import annotations

from typing import Any, Literal

from provider.bus import requests
from provider.bus.endpoints import Handler, Incoming
from provider.bus.queries import VerdictRequest
from provider.errors import Code, Permanent
from provider.models import DeployRecord, Verdict, VerdictReply, now
from provider.pipeline.context import Context

Answer = dict[str, Any]


class Approving:
    """Answers these requests of one provider."""

    def __init__(self, *, ctx: Context) -> None:
        self._ctx = ctx

    def handlers(self) -> dict[str, Handler]:
        """The handler of each endpoint."""
        return {"approve": self.approve, "reject": self.reject}

    async def approve(self, incoming: Incoming) -> Answer:
        """The deploy goes on, as it was when it began to wait."""
        return await self._decide("approved", incoming)

    async def reject(self, incoming: Incoming) -> Answer:
        """The deploy ends as `policy_denied`."""
        return await self._decide("rejected", incoming)

    async def _decide(self, decision: Literal["approved", "rejected"], incoming: Incoming) -> Answer:
        asked = requests.query(VerdictRequest, incoming.body)
        record = await self._record(asked.deploy_id)
        incoming.notes.update(_of(record))
        verdict = Verdict(decision=decision, by=asked.by, note=asked.note, at=now())
        counts = await self._counted(record, verdict)
        return VerdictReply(
            deploy_id=asked.deploy_id,
            **_of(record),
            decision=counts.decision,
            by=counts.by,
            at=counts.at,
            warnings=requests.unknown_fields(incoming.body, VerdictRequest),
        ).wire()

    async def _record(self, deploy_id: str) -> DeployRecord:
        record = await self._ctx.store.get_deploy(deploy_id)
        if record is None:
            raise Permanent(
                Code.NOT_FOUND,
                f"There is no deploy {deploy_id!r}.",
                reason="DeployNotFound",
                hint="The answer `awaiting_approval` names the deploy.",
            )
        return record

    async def _counted(self, record: DeployRecord, verdict: Verdict) -> Verdict:
        """The verdict that counts: this one, or an equal one before. Raises `conflict`."""
        approval = record.approval
        if approval is None or (not record.held and approval.verdict is None):
            raise _conflict(record, "NotAwaiting", "does not wait for an approval")
        known = approval.verdict
        if known is None:
            known = await self._ctx.store.approvals.decide(record.deploy_id, verdict)
        if known.decision != verdict.decision:
            raise _conflict(record, "AlreadyDecided", f"was {known.decision} by {known.by} at {known.at.isoformat()}")
        return known


def _of(record: DeployRecord) -> dict[str, Any]:
    """What a verdict is about."""
    request = record.request
    return {
        "slug": record.slug,
        "repo_full_name": request.repo_full_name,
        "branch": request.branch,
        "commit_sha": record.commit_sha,
    }


def _conflict(record: DeployRecord, reason: str, what: str) -> Permanent:
    return Permanent(
        Code.CONFLICT,
        f"The deploy {record.deploy_id!r} {what}.",
        reason=reason,
        hint="`status` shows what became of it; a new request waits for an approval of its own.",
    )
