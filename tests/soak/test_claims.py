"""The judge of claims finds what contradicts itself, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.soak.asking import Question
from tests.soak.claims import Asked, Court

Json = dict[str, Any]
BEGIN = 1_800_000_000.0
REFUSED = "claimed"


def asked(
    what: str, session: str, sent: float, answer: float, told: Json, *, times: int = 1, force: bool = False
) -> Asked:
    """A request, its moments in seconds after the beginning."""
    question = Question(answers=[told], moments=[BEGIN + answer], sent=BEGIN + sent, times=times)
    return Asked("p", what, session, question, force)


def claim(session: str, end: float) -> Json:
    """What stands in a record."""
    return {"session_id": session, "expires_at": datetime.fromtimestamp(BEGIN + end, UTC).isoformat()}


def granted(session: str, end: float) -> Json:
    return {"ok": True, "claim": claim(session, end)}


def refused(session: str, end: float) -> Json:
    return {"ok": False, "code": REFUSED, "details": {"claim": claim(session, end)}}


LEFT = asked("claim", "left", 0, 1, granted("left", 60))


@pytest.mark.parametrize(
    "other",
    [
        asked("claim", "right", 2, 3, granted("right", 60)),
        asked("deploy", "right", 2, 3, {"ok": True}),
        asked("deploy", "right", 2, 3, {"ok": False, "code": "superseded"}),
        asked("teardown", "right", 2, 3, {"ok": True}),
        asked("deploy", "left", 2, 3, refused("right", 60)),
        asked("deploy", "left", 2, 3, refused("left", 60)),
        asked("deploy", "right", 70, 71, refused("left", 60)),
    ],
    ids=str,
)
def test_a_claim_that_did_not_count_is_found(other: Asked) -> None:
    assert Court({"p": [LEFT, other]}).violations() != []


@pytest.mark.parametrize(
    "others",
    [
        [asked("claim", "right", 2, 3, refused("left", 60))],
        [asked("deploy", "right", 0.5, 3, {"ok": True})],  # it may have been applied before
        [asked("deploy", "right", 2, 3, {"ok": True}, force=True)],
        [asked("claim", "right", 61, 62, granted("right", 90))],
        [asked("release", "left", 2, 3, {"ok": True}), asked("claim", "right", 4, 5, granted("right", 60))],
        [asked("release", "left", -5, -4, {"ok": True}, times=2), asked("deploy", "right", 4, 5, {"ok": True})],
    ],
)
def test_what_may_have_ended_it_explains_everything(others: list[Asked]) -> None:
    assert Court({"p": [LEFT, *others]}).violations() == []
