"""Messages that are no answers: what a session is told, and who asked what."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict

from provider.models.base import Frozen, Tolerant
from provider.models.records import Claim


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
    """Who asked what, and what was decided. Which fields there are beside the first three depends on the action."""

    event_id: str
    at: datetime
    action: str
    slug: str | None = None
    deploy_id: str | None = None
    repo_full_name: str | None = None
    branch: str | None = None
    session_id: str | None = None
    from_session: str | None = None
    by: str | None = None
    force: bool = False
    ttl_seconds: int | None = None
    decided: str | None = None
    deleted: tuple[str, ...] = ()
    claim: dict[str, Any] | None = None
    held_before: Claim | None = None
    displaced: Claim | None = None
