"""What callers read of a deploy that failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from provider.errors import Code, Permanent
from provider.models import DeployRecord, Failure, Owner, Phase, PreviewRecord, StoredRequest
from provider.pipeline import report
from tests.unit.test_claims import READY

AT = datetime(2026, 1, 2, tzinfo=UTC)
GOOD = {
    "generation": 1, "deploy_id": "d0", "commit_sha": "c" * 40, "branch": "main", "image": "i", "digest": "sha256:0",
    "inputs": "x", "made_at": AT, "manifests": (),
}  # fmt: skip


def failed(**more: Any) -> DeployRecord:
    request = StoredRequest(repo_full_name=READY.repo_full_name, branch="main")
    return DeployRecord(
        platform_id="here", deploy_id="d1", owner=Owner(instance="one", epoch=1), fingerprint="f", request=request,
        created_at=AT, deadline=AT, **more,
    )  # fmt: skip


@pytest.mark.parametrize(("warnings", "serving"), [((), "c" * 40), ((report.NOT_PUT_BACK,), None)])
def test_what_could_not_be_put_back_is_not_said_to_serve(warnings: tuple[str, ...], serving: str | None) -> None:
    preview = PreviewRecord.model_validate({**READY.model_dump(), "last_good": GOOD})
    cause = Failure.of(Permanent(Code.VERIFY_FAILED, "no", reason="Refused", hint="h"), Phase.VERIFY)
    told = report.failure(failed(warnings=warnings), cause, preview)
    assert told.still_serving == serving
    assert ("still serves" in report.session_text(told, "acme/app", "main")) == (serving is not None)
