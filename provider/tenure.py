"""Whose a preview is and how long it lives: the requests `touch`, `claim`, `release` and `attach`.

Each is one change of the preview's record.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from provider.bus import requests
from provider.bus.endpoints import Handler, Incoming
from provider.bus.queries import AttachRequest, ClaimRequest, ReleaseRequest, SlugRequest, TouchRequest
from provider.models import (
    AttachReply,
    ClaimReply,
    PreviewRecord,
    PreviewState,
    ReleaseReply,
    TenureReply,
    now,
)
from provider.pipeline import policing
from provider.pipeline.context import Context
from provider.store import claims, lifetime
from provider.store.claims import Asker, Seen
from provider.store.records import Reducer

Answer = dict[str, Any]


class Tenure:
    """Answers these requests of one provider."""

    def __init__(self, *, ctx: Context) -> None:
        self._ctx = ctx
        self._policy = lifetime.Policy.of(ctx.settings)

    def handlers(self) -> dict[str, Handler]:
        """The handler of each endpoint."""
        return {"touch": self.touch, "claim": self.claim, "release": self.release, "attach": self.attach}

    async def touch(self, incoming: Incoming) -> Answer:
        """The preview is used: its time to live begins anew, perhaps with another length."""
        asked = requests.query(TouchRequest, incoming.body)
        present = await self._ctx.store.get_preview(asked.slug) if asked.ttl_seconds is not None else None
        if present is not None and asked.ttl_seconds is not None:
            policing.check_time_to_live(self._ctx, present, asked.ttl_seconds)
        preview = await self._ctx.store.change_preview(asked.slug, lifetime.touched(now(), asked.ttl_seconds))
        warnings = self._policy.refusal(asked.ttl_seconds)
        return TenureReply(**self._fields(preview, incoming, TouchRequest, *warnings)).wire()

    async def claim(self, incoming: Incoming) -> Answer:
        """From now on one session alone may deploy to the preview or tear it down.

        A deploy of another one that is being applied is finished; the answer names it as `under_way`.
        """
        asked, at = requests.query(ClaimRequest, incoming.body), now()
        asker = Asker(asked.session_id, asked.force)
        before, after = await self._changed(incoming, asked, claims.claimed(asker, asked.ttl_seconds, at), at)
        current, newest = after.current, after.newest.deploy_id
        applying = after.state is PreviewState.PROVISIONING and current is not None and current.deploy_id == newest
        held = claims.holding(before, at)
        displaced = held if held is not None and held.session_id != asked.session_id else None
        fields = self._fields(after, incoming, ClaimRequest)
        return ClaimReply(**fields, displaced=displaced, under_way=newest if applying else None).wire()

    async def release(self, incoming: Incoming) -> Answer:
        """The session lets go; without a claim in force nothing happens."""
        asked, at = requests.query(ReleaseRequest, incoming.body), now()
        before, after = await self._changed(incoming, asked, claims.released(asked.session_id, at), at)
        fields = self._fields(after, incoming, ReleaseRequest)
        return ReleaseReply(**fields, released=claims.holding(before, at) is not None).wire()

    async def attach(self, incoming: Incoming) -> Answer:
        """The preview, and the claim in force, are another session's."""
        asked, at = requests.query(AttachRequest, incoming.body), now()
        reducer = claims.attached(asked.session_id, asked.from_session, at)
        before, after = await self._changed(incoming, asked, reducer, at)
        fields = self._fields(after, incoming, AttachRequest)
        return AttachReply(**fields, before=before.session_id if before else None).wire()

    async def _changed(
        self, incoming: Incoming, asked: SlugRequest, reducer: Reducer, at: datetime
    ) -> tuple[PreviewRecord | None, PreviewRecord]:
        """The record before and after; the audit trail is told who held the claim."""
        seen = Seen(reducer)
        after = await self._ctx.store.change_preview(asked.slug, seen)
        held = claims.holding(seen.before, at)
        incoming.notes.update(held_before=held.model_dump(mode="json") if held else None)
        return seen.before, after

    def _fields(
        self, preview: PreviewRecord, incoming: Incoming, kind: type[SlugRequest], *warnings: str
    ) -> dict[str, Any]:
        """What every one of these answers says."""
        return {
            "slug": preview.slug,
            "session_id": preview.session_id,
            "claim": preview.claim,
            "last_access": preview.last_access,
            "expires_at": self._policy.expires_at(preview),
            "warnings": (*requests.unknown_fields(incoming.body, kind), *warnings),
        }
