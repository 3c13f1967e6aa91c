"""The audit trail: each request that changes something, granted or refused, and nothing that only looks."""

from __future__ import annotations

from typing import Any

import pytest

from provider.bus.audit import READ_ONLY, of_outcome, of_request
from provider.bus.endpoints import Incoming
from provider.bus.subjects import ENDPOINTS, QUEUE, UNSUPPORTED
from provider.errors import Code
from provider.models import AuditEntry, Failure, Phase, TraceContext, now
from tests.unit.test_leases import deploy

ASKED = {
    "repo_full_name": "acme/shop",
    "branch": "main",
    "session_id": "s-1",
    "secret_values": {"KEY": "hunter2"},
    "extra_env": {"TOKEN": "hunter3"},
    "preview_yaml": "hunter4",
}


def entry(name: str, answer: dict[str, Any] | None, body: dict[str, Any] = ASKED, **notes: Any) -> AuditEntry | None:
    incoming = Incoming(body, "inbox", now(), TraceContext(traceparent="00-1-2-01"), notes)
    made = of_request(name, incoming, answer)
    return None if made is None else AuditEntry.model_validate({"event_id": "e", **made})


@pytest.mark.parametrize("name", [*ENDPOINTS, *UNSUPPORTED, QUEUE])
def test_whatever_may_change_something_is_kept(name: str) -> None:
    granted, refused = entry(name, {"ok": True}), entry(name, {"ok": False, "code": "claimed", "reason": "Claimed"})
    if name in READ_ONLY:
        assert granted is refused is None
        return
    assert granted is not None
    assert refused is not None
    assert (granted.action, granted.ok, granted.decided) == ("provision" if name == QUEUE else name, True, "done")
    assert (refused.ok, refused.decided, refused.reason, refused.session_id) == (False, "claimed", "Claimed", "s-1")


def test_an_accepted_deploy_is_named() -> None:
    accepted = entry("provision", None, deploy_id="d-1")
    assert accepted is not None
    assert (accepted.decided, accepted.deploy_id, accepted.repo_full_name) == ("accepted", "d-1", "acme/shop")
    assert "hunter" not in accepted.model_dump_json()


def test_a_dry_run_changes_nothing() -> None:
    assert entry("provision", {"ok": True}, ASKED | {"dry_run": True}) is None


def test_whatever_stands_in_a_refused_request_is_kept_short_or_not_at_all() -> None:
    refused = {"ok": False, "code": "invalid_request"}
    made = entry("teardown", refused, {"slug": "x" * 5000, "session_id": ["hunter2"], "force": "yes"})
    assert made is not None
    assert made.slug == "x" * 200
    assert (made.session_id, made.force) == (None, None)
    assert made.model_extra == {}
    assert entry("touch", refused, {"ttl_seconds": True, "slug": None}) is not None
    assert entry("teardown", {"ok": False, "code": "bad_request_decode"}, {}) is not None


def test_how_a_deploy_ended_is_one_entry_however_often_it_is_told() -> None:
    failure = Failure(code=Code.CLAIMED, message="no", phase=Phase.ADMIT, reason="Claimed")
    record = deploy().model_copy(update={"failure": failure, "slug": "shop"})
    first, again = (of_outcome(record, {"ok": False, "code": Code.CLAIMED}) for _ in range(2))
    made = AuditEntry.model_validate({"at": now(), **first})
    assert first == again
    assert (made.action, made.ok, made.decided, made.reason, made.slug) == (
        "deploy",
        False,
        "claimed",
        "Claimed",
        "shop",
    )
    good = of_outcome(deploy().model_copy(update={"built": True}), {"ok": True, "code": None})
    assert (good["decided"], good["built"], good["phase"]) == ("done", True, None)
