"""How long a preview lives: pure rules over its record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from provider.errors import Code, Permanent
from provider.models import Claim, Newest, PreviewRecord, PreviewState
from provider.settings import Settings
from provider.store import lifetime, reducers
from provider.store.lifetime import Policy, StillWanted
from tests.unit.test_claims import READY, admit, deploy

AT = datetime(2026, 1, 2, tzinfo=UTC)
POLICY = Policy(ttl=86400, longest=0, failed=3600, warning=3600.0, busy=1740.0, held=87000.0)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def preview(**changes: object) -> PreviewRecord:
    return READY.model_copy(update={"last_access": AT, "claim": None, **changes})


FAILED = preview(state=PreviewState.FAILED, last_good=None)


@pytest.mark.parametrize(
    ("record", "policy", "ends"),
    [
        (preview(), POLICY, 86400),
        (preview(ttl_seconds=60), POLICY, 60),
        (preview(ttl_seconds=0), POLICY, None),
        (preview(), Policy(0, 0, 3600, 60.0, 60.0, 60.0), None),
        (preview(ttl_seconds=0), Policy(60, 600, 3600, 60.0, 60.0, 60.0), 600),
        (preview(ttl_seconds=601), Policy(60, 600, 3600, 60.0, 60.0, 60.0), 600),
        (preview(ttl_seconds=599), Policy(60, 600, 3600, 60.0, 60.0, 60.0), 599),
        (FAILED, POLICY, 3600),
        (FAILED.model_copy(update={"ttl_seconds": 0}), POLICY, 3600),
        (FAILED.model_copy(update={"ttl_seconds": 60}), POLICY, 60),
        (preview(state=PreviewState.DEGRADED), POLICY, 86400),
        (preview(state=PreviewState.PROVISIONING, ttl_seconds=60), POLICY, 1740),
        (preview(state=PreviewState.REMOVING), POLICY, None),
        (preview(ttl_seconds=60, claim=Claim(session_id="a", expires_at=after(100))), POLICY, 100),
        (preview(ttl_seconds=60, claim=Claim(session_id="a", expires_at=after(10))), POLICY, 60),
    ],
)
def test_when_it_ends(record: PreviewRecord, policy: Policy, ends: int | None) -> None:
    assert policy.expires_at(record) == (after(ends) if ends is not None else None)


def test_a_record_of_an_older_provider_lives_as_long_as_any() -> None:
    fields = preview().model_dump(mode="json")
    for later in ("warned_at", "branch_gone_at", "installation_id"):
        del fields[later]
    read = PreviewRecord.model_validate(fields)
    assert read == preview()
    assert POLICY.expires_at(read) == after(86400)


def test_the_settings_defaults() -> None:
    assert Policy.of(Settings()) == POLICY


def test_who_asks_for_more_than_is_given_is_told() -> None:
    bounded = Policy(60, 600, 3600, 60.0, 60.0, 60.0)
    assert bounded.refusal(600) == bounded.refusal(None) == POLICY.refusal(0) == ()
    assert "600 s" in bounded.refusal(0)[0]
    assert "601 s" in bounded.refusal(601)[0]


@pytest.mark.parametrize(("ttl", "before"), [(86400, 3600), (60, 15)])
def test_the_end_is_announced_once_and_again_after_an_access(ttl: int, before: int) -> None:
    record = preview(ttl_seconds=ttl)
    due = after(ttl - before)
    assert not lifetime.unwarned(record, POLICY, due - timedelta(seconds=1))
    assert lifetime.unwarned(record, POLICY, due)
    told = lifetime.warned(POLICY, due)(record)
    assert not lifetime.unwarned(told, POLICY, after(ttl))
    assert lifetime.warned(POLICY, after(ttl))(told) == told
    again = lifetime.touched(due)(told)
    assert not lifetime.unwarned(again, POLICY, due)
    assert lifetime.unwarned(again, POLICY, due + timedelta(seconds=ttl - before))


def test_a_touch_never_goes_back_in_time() -> None:
    assert lifetime.touched(AT - timedelta(hours=1))(preview()).last_access == AT
    assert lifetime.touched(after(5), 0)(preview()).ttl_seconds == 0


def test_a_deploy_without_a_time_to_live_or_a_session_keeps_what_was_said_before() -> None:
    record = preview(ttl_seconds=60, session_id="s", branch_gone_at=AT, warned_at=AT)
    redeployed = admit(deploy("d2", 20), at=after(5))(record)
    assert (redeployed.ttl_seconds, redeployed.session_id, redeployed.last_access) == (60, "s", after(5))
    assert (redeployed.branch_gone_at, redeployed.warned_at) == (None, None)
    assert admit(deploy("d2", 20, "t", ttl_seconds=0))(record).ttl_seconds == 0


OVER = lifetime.retiring(lifetime.unused(POLICY, after(86400)))


class TestRetiring:
    def test_begins_when_time_is_over(self) -> None:
        record = OVER(preview())
        assert (record.state, record.newest) == (PreviewState.REMOVING, Newest(order=10, deploy_id=""))
        assert OVER(record) == record, "repeated after a crash"

    @pytest.mark.parametrize(
        "wanted",
        [
            lifetime.touched(after(1))(preview()),
            preview(claim=Claim(session_id="a", expires_at=after(90000))),
            admit(deploy("d2", 20), at=after(86399))(preview()),
            preview(ttl_seconds=0),
        ],
    )
    def test_whoever_wants_it_in_between_wins(self, wanted: PreviewRecord) -> None:
        with pytest.raises(StillWanted):
            OVER(wanted)

    def test_a_deploy_that_was_accepted_before_and_is_admitted_after_goes_on(self) -> None:
        record = admit(deploy("d2", 11), at=after(86401))(OVER(preview()))
        assert (record.state, record.newest.deploy_id, record.generation) == (PreviewState.PROVISIONING, "d2", 2)
        assert (record.current, record.last_good) == (None, None)
        assert reducers.removed(10, after(86402))(record) == record, "the removal ends without a tombstone"

    def test_the_deploy_that_made_it_does_not_bring_it_back(self) -> None:
        with pytest.raises(Permanent) as caught:
            admit(deploy("d1", 10))(OVER(preview()))
        assert caught.value.code is Code.CANCELLED

    def test_what_is_gone_cannot_expire(self) -> None:
        for record in (None, reducers.removed(10, AT)(OVER(preview()))):
            with pytest.raises(Permanent):
                OVER(record)


class TestBranches:
    GONE = preview(branch_gone_at=AT)

    def check(self, record: PreviewRecord, at: float = 3600, gone: tuple[str, ...] = ("main",)) -> bool:
        try:
            lifetime.branch_gone(gone, 3600, after(at))(record)
        except StillWanted:
            return False
        return True

    def test_the_first_sight_is_kept_and_forgotten_when_it_is_back(self) -> None:
        first = lifetime.branch_seen(False, AT)(preview())
        assert first.branch_gone_at == AT
        assert lifetime.branch_seen(False, after(60))(first) == first
        assert lifetime.branch_seen(True, after(60))(first).branch_gone_at is None

    def test_it_goes_after_the_grace(self) -> None:
        assert self.check(self.GONE)
        assert not self.check(self.GONE, at=3599)

    def test_it_stays_while_anything_speaks_for_it(self) -> None:
        assert not self.check(preview()), "seen once only"
        assert not self.check(self.GONE, gone=()), "another branch by now"
        assert not self.check(self.GONE.model_copy(update={"branch": "other"})), "another branch by now"
        assert not self.check(self.GONE.model_copy(update={"branch": "other"}), gone=("other",)), "main still serves"
        assert not self.check(self.GONE.model_copy(update={"state": PreviewState.PROVISIONING}))
        claimed = self.GONE.model_copy(update={"claim": Claim(session_id="a", expires_at=after(3601))})
        assert not self.check(claimed)
        assert self.check(claimed, at=3601)

    def test_two_sights_at_one_moment_are_one(self) -> None:
        with pytest.raises(StillWanted):
            lifetime.branch_gone(("main",), 0.0, AT)(self.GONE)
