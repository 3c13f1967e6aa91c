"""What the audit trail keeps of each request that changes something, granted or refused, and of how deploys end. Pure.

Made in the one place that every request passes, so that no endpoint can forget it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider.bus.endpoints import Incoming
from provider.bus.subjects import QUEUE
from provider.models import DeployRecord

READ_ONLY = frozenset({"validate", "status", "list", "wait", "introspect"})
"""Requests that change nothing; whatever comes to be beside these is audited."""
OF_A_REQUEST: Mapping[str, type] = {
    "slug": str,
    "deploy_id": str,
    "session_id": str,
    "from_session": str,
    "repo_full_name": str,
    "branch": str,
    "commit_sha": str,
    "by": str,
    "note": str,
    "ttl_seconds": int,
    "force": bool,
}
"""Fields that are kept as they were asked, where they have that type: a refused request may hold anything."""
MOST_CHARS = 200

Entry = dict[str, Any]


def of_request(name: str, incoming: Incoming, answer: Mapping[str, Any] | None) -> Entry | None:
    """The entry of a request that was decided; None where it could change nothing."""
    body = incoming.body
    if name in READ_ONLY or body.get("dry_run") is True:
        return None
    action = "provision" if name == QUEUE else name
    asked = {field: _short(body[field]) for field, kind in OF_A_REQUEST.items() if type(body.get(field)) is kind}
    return {"action": action, "at": incoming.received_at.isoformat(), **asked, **_decided(answer), **incoming.notes}


def of_outcome(record: DeployRecord, data: Mapping[str, Any]) -> Entry:
    """The entry of how an accepted deploy ended; the same however often it is told."""
    request, ok = record.request, bool(data["ok"])
    return {
        "event_id": f"{record.deploy_id}-ended",
        "action": "deploy",
        "ok": ok,
        "decided": "done" if ok else data["code"],
        "reason": None if record.failure is None else record.failure.reason,
        "session_id": request.session_id,
        "slug": record.slug,
        "deploy_id": record.answer_id,
        "repo_full_name": request.repo_full_name,
        "branch": request.branch,
        "commit_sha": record.commit_sha,
        "phase": record.failure.phase if record.failure is not None else None,
        "built": record.built if ok else None,
    }


def _decided(answer: Mapping[str, Any] | None) -> Entry:
    if answer is None or answer.get("accepted"):
        return {"ok": True, "decided": "accepted"}
    if answer["ok"]:
        return {"ok": True, "decided": "done"}
    claim = (answer.get("details") or {}).get("claim")
    return {"ok": False, "decided": answer["code"], "reason": answer.get("reason"), "claim": claim}


def _short(value: str | int) -> str | int:
    return value[:MOST_CHARS] if isinstance(value, str) else value
