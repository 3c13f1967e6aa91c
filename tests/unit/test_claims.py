"""Claims: who may change a preview, and that of two claimants never both win."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.errors import Code, Permanent
from provider.models import Claim, DeployRecord, Owner, PreviewRecord, PreviewState, Revision, StoredRequest
from provider.store import claims, reducers
from provider.store.claims import Asker
from provider.store.kv import Entry, MemoryKeyValue
from provider.store.records import Reducer, Store

AT = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = 3600


def deploy(deploy_id: str, order: int, session: str | None = None, **fields: object) -> DeployRecord:
    request = {"repo_full_name": "acme/app", "branch": "main", "session_id": session, **fields}
    return DeployRecord(
        platform_id="here",
        deploy_id=deploy_id,
        order=order,
        owner=Owner(instance="i", epoch=1),
        fingerprint="f",
        request=StoredRequest.model_validate(request),
        created_at=AT,
        deadline=AT + timedelta(hours=1),
        slug="my-app",
    )


def revision(of: DeployRecord) -> Revision:
    return Revision(
        generation=1, deploy_id=of.deploy_id, commit_sha="a" * 40, branch="main", image="i", digest="d", inputs="in",
        manifests=(), made_at=AT,
    )  # fmt: skip


def admit(of: DeployRecord, inputs: str = "other", at: datetime = AT) -> Reducer:
    return reducers.admitted(of, "https://my-app.example", inputs, at)


def removing(order: int, asker: Asker) -> Reducer:
    return reducers.removing(order, AT, slug="my-app", platform_id="here", asker=asker)


D1 = deploy("d1", 10)
READY = reducers.succeeded(D1, revision(D1))(admit(D1, "in")(None))
HELD = claims.claimed(Asker("a"), HOUR, AT)(READY)
HIS = Claim(session_id="a", expires_at=AT + timedelta(hours=1))


def refused(record: PreviewRecord | None, step: Reducer) -> Permanent:
    with pytest.raises(Permanent) as caught:
        step(record)
    return caught.value


def test_a_claim_names_its_session_and_its_end() -> None:
    assert (READY.claim, HELD.claim) == (None, HIS)


def test_who_comes_second_learns_the_holder_the_end_and_what_to_do() -> None:
    error = refused(HELD, claims.claimed(Asker("b"), HOUR, AT))
    assert (error.code, error.whose, error.retryable) == (Code.CLAIMED, "user", False)
    assert "'my-app'" in error.message
    assert "session a until 2026-01-02T01:00:00Z" in error.message
    assert error.details == {"claim": {"session_id": "a", "expires_at": "2026-01-02T01:00:00Z"}}
    assert error.hint
    assert "force" in error.hint


def test_the_holder_renews_it() -> None:
    later = AT + timedelta(minutes=30)
    renewed = claims.claimed(Asker("a"), HOUR, later)(HELD).claim
    assert renewed is not None
    assert renewed.expires_at == later + timedelta(hours=1)


def test_it_ends_by_itself() -> None:
    end = AT + timedelta(hours=1)
    assert claims.claimed(Asker("b"), HOUR, end)(HELD).claim == Claim(
        session_id="b", expires_at=end + timedelta(hours=1)
    )
    assert admit(deploy("d2", 20, "b"), at=end)(HELD).newest.deploy_id == "d2"


def test_force_takes_it_over_and_says_whose_it_was() -> None:
    asker = Asker("b", force=True)
    seen = claims.Seen(claims.claimed(asker, HOUR, AT))
    after = seen(HELD)
    assert (after.claim and after.claim.session_id) == "b"
    assert seen.displaced(after, asker, AT) == HIS


class TestRelease:
    def test_by_its_holder(self) -> None:
        assert claims.released("a", AT)(HELD).claim is None

    def test_by_another(self) -> None:
        assert refused(HELD, claims.released("b", AT)).code is Code.CLAIMED

    def test_without_a_claim_is_no_change(self) -> None:
        assert claims.released("b", AT)(READY) == READY
        assert claims.released("b", AT + timedelta(hours=2))(HELD).claim is None


class TestAttach:
    def test_preview_and_claim_move_and_the_end_stays(self) -> None:
        moved = claims.attached("b", None, AT)(HELD)
        assert (moved.session_id, moved.claim) == ("b", HIS.model_copy(update={"session_id": "b"}))
        assert claims.attached("b", None, AT)(moved) == moved

    def test_without_a_claim_only_the_preview_moves(self) -> None:
        moved = claims.attached("b", None, AT)(READY)
        assert (moved.session_id, moved.claim) == ("b", None)

    def test_of_two_handovers_from_one_session_one_succeeds(self) -> None:
        moved = claims.attached("b", "a", AT)(HELD)
        assert refused(moved, claims.attached("c", "a", AT)).code is Code.CLAIMED
        assert claims.attached("b", "a", AT)(moved) == moved, "repeated"
        loose = claims.attached("b", None, AT)(READY)
        assert refused(loose, claims.attached("c", "a", AT)).code is Code.CONFLICT


class TestDeploys:
    @pytest.mark.parametrize("session", [None, "b"])
    def test_of_others_are_refused(self, session: str | None) -> None:
        assert refused(HELD, admit(deploy("d2", 20, session))).code is Code.CLAIMED

    def test_of_the_holder_go_through_and_keep_the_claim(self) -> None:
        record = admit(deploy("d2", 20, "a"))(HELD)
        assert (record.newest.deploy_id, record.claim) == ("d2", HIS)
        assert reducers.deploying(D2A, revision(D2A), now=AT)(admit(D2A)(HELD)).claim == HIS

    def test_forced_ones_take_the_claim_over(self) -> None:
        assert admit(deploy("d2", 20, "b", force=True))(HELD).claim == HIS.model_copy(update={"session_id": "b"})
        assert admit(deploy("d2", 20, None, force=True))(HELD).claim is None, "nobody to give it to"

    def test_sharing_is_no_way_round(self) -> None:
        under_way = claims.claimed(Asker("a"), HOUR, AT)(admit(deploy("d2", 20, "a"), "same")(READY))
        assert refused(under_way, admit(deploy("d3", 30, "b"), "same")).code is Code.CLAIMED

    def test_accepted_before_the_claim_and_not_admitted_yet(self) -> None:
        """Order 5 was accepted long before; the claim came before it was admitted."""
        assert refused(HELD, admit(deploy("d0", 5, "b"))).code is Code.CLAIMED

    def test_admitted_before_the_claim_and_not_applied_yet(self) -> None:
        d2 = deploy("d2", 20, "b")
        record = claims.claimed(Asker("a"), HOUR, AT)(admit(d2)(READY))
        assert refused(record, reducers.deploying(d2, revision(d2), now=AT)).code is Code.CLAIMED

    def test_being_applied_before_the_claim_is_finished(self) -> None:
        d2 = deploy("d2", 20, "b")
        record = reducers.deploying(d2, revision(d2), now=AT)(admit(d2)(READY))
        record = claims.claimed(Asker("a"), HOUR, AT)(record)
        record = reducers.deploying(d2, revision(d2), now=AT)(record)  # a process that goes on does it again
        assert reducers.succeeded(d2, revision(d2))(record).state is PreviewState.READY

    def test_force_counts_once(self) -> None:
        d2 = deploy("d2", 20, "b", force=True)
        record = claims.claimed(Asker("a", force=True), HOUR, AT)(admit(d2)(HELD))
        assert refused(record, reducers.deploying(d2, revision(d2), now=AT)).code is Code.CLAIMED


class TestTeardowns:
    @pytest.mark.parametrize("session", [None, "b"])
    def test_of_others_are_refused(self, session: str | None) -> None:
        assert refused(HELD, removing(20, Asker(session))).code is Code.CLAIMED

    @pytest.mark.parametrize("asker", [Asker("a"), Asker("b", force=True), Asker(None, force=True)])
    def test_of_the_holder_and_forced_ones_end_the_claim(self, asker: Asker) -> None:
        record = removing(20, asker)(HELD)
        assert (record.state, record.claim) == (PreviewState.REMOVING, None)
        assert admit(deploy("d3", 30, "b"))(record).newest.deploy_id == "d3"


@pytest.mark.parametrize(
    "step", [claims.claimed(Asker("a"), 1, AT), claims.released("a", AT), claims.attached("a", None, AT)]
)
def test_what_is_not_there_cannot_be_claimed(step: Reducer) -> None:
    going = removing(20, Asker())(READY)
    gone = reducers.removed(20, AT)(going)
    for record in (None, going, gone):
        assert refused(record, step).code is Code.NOT_FOUND


D2A = deploy("d2", 20, "a")


# -------------------------------------------------------------------- over any interleaving


class Gated(MemoryKeyValue):
    """A bucket whose reads and writes wait until the test lets one of them through."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[asyncio.Future[None]] = []
        self.open = True

    async def _turn(self) -> None:
        if not self.open:
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn

    async def get(self, key: str) -> Entry | None:
        await self._turn()
        return await super().get(key)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        await self._turn()
        return await super().update(key, value, revision)


async def _race(steps: list[Reducer], choices: list[int]) -> tuple[PreviewRecord, list[bool]]:
    """Run them at once, their reads and writes in the order that `choices` say; the record, and who succeeded."""
    bucket = Gated()
    store = Store(previews=bucket, deploys=MemoryKeyValue(), platform_id="here")
    await store.change_preview("my-app", lambda _: READY)
    bucket.open = False
    tasks = [asyncio.create_task(store.change_preview("my-app", step)) for step in steps]
    picks = iter(choices)
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        if bucket.waiting:
            bucket.waiting.pop(next(picks, 0) % len(bucket.waiting)).set_result(None)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    bucket.open = True
    record = await store.get_preview("my-app")
    assert record is not None
    return record, [isinstance(one, PreviewRecord) for one in done]


@given(st.integers(2, 4), st.lists(st.integers(0, 7), max_size=40))
def test_of_claimants_at_once_exactly_one_wins(claimants: int, choices: list[int]) -> None:
    sessions = [f"s{number}" for number in range(claimants)]
    record, won = asyncio.run(_race([claims.claimed(Asker(one), HOUR, AT) for one in sessions], choices))
    assert sum(won) == 1
    assert record.claim is not None
    assert record.claim.session_id == sessions[won.index(True)]


@given(st.lists(st.integers(0, 7), max_size=40))
def test_a_claim_and_a_strangers_deploy_and_teardown_never_all_pass(choices: list[int]) -> None:
    steps = [claims.claimed(Asker("a"), HOUR, AT), admit(deploy("d2", 20, "b")), removing(30, Asker("c"))]
    record, (claimed, admitted, removed) = asyncio.run(_race(steps, choices))
    assert not (claimed and removed), "a claim keeps others from removing; what is removed cannot be claimed"
    if claimed:
        assert record.claim == HIS
        assert record.state is not PreviewState.REMOVING
        d2 = deploy("d2", 20, "b")
        if admitted:
            assert refused(record, reducers.deploying(d2, revision(d2), now=AT)).code is Code.CLAIMED
