"""Messages that are no answers: what a session is told, and who asked what."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict

from provider.models.base import Frozen, Tolerant
from provider.models.outcome import Phase
from provider.models.records import Claim

AUDIT_VERSION = 1


class SessionText(Frozen):
    """The payload of a `SessionMessage`. Only `text` reaches the agent, so it stands alone."""

    text: str
    kind: Literal["preview"] = "preview"
    event_id: str
    source: Literal["preview-provider"] = "preview-provider"
    driverless: Literal[True] = True

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class SessionMessage(Frozen):
    """How a session is told something (platform: contract.md, "Telling a session")."""

    session_id: str
    timestamp: datetime
    type: Literal["user.message"] = "user.message"
    payload: SessionText

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class AuditEntry(Tolerant):
    """Who asked for what, and what was decided. What is not known, or does not apply, is left out.

    Args:
        version: of this form.
        event_id: also the message's `Nats-Msg-Id`.
        at: when it was decided.
        who: `caller` for a request, `provider` for what it does by itself.
        action: the request's name; `deploy` for how an accepted deploy ended; `claim.forced`, `expire`, `branch_gone`.
        ok: whether it was granted, or done.
        decided: `accepted` (how it ended comes as `deploy`), `done`, or a failure's code.
        reason: the failure's.
        session_id: of the session that asked, as far as it said so: sessions do not prove who they are.
        by: the person who asked, or the request that led to this.
        slug, deploy_id, repo_full_name, branch, commit_sha: what it is about.
        from_session, ttl_seconds, force, note: as they were asked.
        phase, built: how a deploy ended: where it failed, or whether its image was built.
        cancelled: whether a cancel was what ended the deploy.
        deleted: what was removed.
        claim: the one that stood in the way.
        held_before: the claim that was in force before this.
        displaced: the claim that `force` took over.
    """

    model_config = ConfigDict(extra="allow", frozen=True)  # an action of its own may say more

    version: int = AUDIT_VERSION
    event_id: str
    at: datetime
    who: Literal["caller", "provider"] = "caller"
    action: str
    ok: bool = True
    decided: str = "done"
    reason: str | None = None
    session_id: str | None = None
    by: str | None = None
    slug: str | None = None
    deploy_id: str | None = None
    repo_full_name: str | None = None
    branch: str | None = None
    commit_sha: str | None = None
    from_session: str | None = None
    ttl_seconds: int | None = None
    force: bool | None = None
    note: str | None = None
    phase: Phase | None = None
    built: bool | None = None
    cancelled: bool | None = None
    deleted: tuple[str, ...] | None = None
    claim: dict[str, Any] | None = None
    held_before: Claim | None = None
    displaced: Claim | None = None
