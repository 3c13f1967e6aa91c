"""Reducers: the rules by which a preview's record changes, each the same when repeated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from provider.errors import Code, Permanent
from provider.models import (
    IMAGES_KEPT,
    BuiltImage,
    DeployRecord,
    Failure,
    Owner,
    PreviewRecord,
    PreviewState,
    Revision,
    StoredRequest,
)
from provider.store import reducers
from provider.store.records import Reducer

AT = datetime(2026, 1, 2, tzinfo=UTC)
LATER = AT + timedelta(hours=1)
URL = "https://my-app.example"
FAILURE = Failure(code=Code.KANIKO_BUILD_FAILED, message="no")
CANCELLED = Failure(code=Code.CANCELLED, message="no")


def deploy(deploy_id: str, order: int | None, repo: str = "acme/app", branch: str = "main") -> DeployRecord:
    return DeployRecord(
        platform_id="here",
        deploy_id=deploy_id,
        order=order,
        owner=Owner(instance="i", epoch=1),
        fingerprint="f",
        request=StoredRequest(repo_full_name=repo, branch=branch, alias_hosts=("a.example",), ttl_seconds=60),
        created_at=AT,
        deadline=LATER,
        slug="my-app",
    )


def revision(of: DeployRecord, generation: int = 1) -> Revision:
    return Revision(
        generation=generation,
        deploy_id=of.deploy_id,
        commit_sha="a" * 40,
        branch="main",
        image="r/i:t",
        digest="sha256:0",
        inputs="in",
        manifests=({"kind": "Deployment"},),
        made_at=AT,
    )


def built(deploy: DeployRecord, what: BuiltImage, then: Reducer | None = None) -> Reducer:
    """The digest is remembered; without `then` nothing else changes."""
    return reducers.image_built(deploy, what, then or (lambda record: cast(PreviewRecord, record)))


def image(build_inputs: str, digest: str = "sha256:0") -> BuiltImage:
    return BuiltImage(build_inputs=build_inputs, digest=digest, image="r/i:t", built_at=AT)


def apply(record: PreviewRecord | None, *steps: Reducer) -> PreviewRecord:
    """Apply each step twice: every reducer may be repeated after a crash."""
    for step in steps:
        once = step(record)
        assert step(once) == once
        record = once
    assert record is not None
    return record


def admit(of: DeployRecord, inputs: str = "in", at: datetime = AT) -> Reducer:
    return reducers.admitted(of, URL, inputs, at)


def code_of(record: PreviewRecord | None, step: Reducer) -> Code:
    with pytest.raises(Permanent) as caught:
        step(record)
    return caught.value.code


D1, D2, D3 = deploy("d1", 10), deploy("d2", 20), deploy("d3", 30)
PROVISIONING = apply(None, admit(D1))
READY = apply(PROVISIONING, reducers.deploying(D1, revision(D1)), reducers.succeeded(D1, revision(D1), image("b1")))


def removing(order: int, lost: int = 0) -> Reducer:
    return reducers.removing(order, LATER, slug="app", platform_id="p", lost=lost)


REMOVING = apply(READY, removing(15))
REMOVED = apply(REMOVING, reducers.removed(15, LATER))


class TestAdmitted:
    def test_makes_the_record(self) -> None:
        assert (PROVISIONING.state, PROVISIONING.generation) == (PreviewState.PROVISIONING, 1)
        assert (PROVISIONING.newest.order, PROVISIONING.newest.deploy_id) == (10, "d1")
        assert (PROVISIONING.alias_hosts, PROVISIONING.ttl_seconds, PROVISIONING.url) == (("a.example",), 60, URL)
        assert reducers.still_newest(PROVISIONING, D1)
        assert reducers.joins(PROVISIONING, D1) is None

    def test_keeps_what_serves(self) -> None:
        record = apply(READY, admit(D2, "other"))
        assert (record.current, record.last_good) == (READY.current, READY.last_good)
        assert (record.generation, record.state) == (2, PreviewState.PROVISIONING)

    def test_another_repository_s_slug_is_taken(self) -> None:
        with pytest.raises(Permanent) as caught:
            admit(deploy("x", 99, repo="evil/app"))(READY)
        assert caught.value.code is Code.SLUG_TAKEN
        assert "my-app" in caught.value.message
        assert "acme/app" in caught.value.message
        assert caught.value.hint
        assert "metadata.name" in caught.value.hint

    def test_a_repository_s_name_has_no_case(self) -> None:
        assert apply(READY, admit(deploy("d2", 20, repo="Acme/App"))).newest.deploy_id == "d2"

    def test_an_older_one_is_superseded(self) -> None:
        newest = apply(None, admit(D2))
        assert code_of(newest, admit(D1, "other")) is Code.SUPERSEDED

    def test_an_older_one_that_wants_the_same_joins(self) -> None:
        newest = apply(None, admit(D2))
        record = apply(newest, admit(D1))
        assert (record.newest.deploy_id, record.newest.order) == ("d2", 20)
        assert reducers.joins(record, D1) == "d2"

    def test_repeated_keeps_its_generation_even_when_it_failed(self) -> None:
        failed = apply(PROVISIONING, reducers.failed(D1, FAILURE))
        assert admit(D1)(failed) == failed

    def test_without_order_is_our_mistake(self) -> None:
        with pytest.raises(ValueError, match="order"):
            admit(deploy("x", None))


class TestJoining:
    def test_the_same_inputs_under_way_are_joined(self) -> None:
        record = apply(PROVISIONING, admit(D2))
        assert reducers.joins(record, D2) == "d1"
        assert (record.newest.order, record.newest.deploy_id, record.generation) == (20, "d1", 1)
        assert reducers.still_newest(record, D1)

    def test_an_older_one_does_not_pass_the_one_that_joined(self) -> None:
        record = apply(PROVISIONING, admit(D3))
        assert code_of(record, admit(D2, "other")) is Code.SUPERSEDED

    def test_one_that_joined_stays_joined_after_the_other_s_end(self) -> None:
        record = apply(PROVISIONING, admit(D2), reducers.failed(D1, FAILURE))
        assert reducers.joins(admit(D2)(record), D2) == "d1"

    @pytest.mark.parametrize("code", sorted(reducers.NOT_SHARED))
    def test_one_that_joined_goes_on_alone_after_an_end_that_is_not_shared(self, code: Code) -> None:
        ended = apply(PROVISIONING, admit(D2), reducers.failed(D1, Failure(code=code, message="no")))
        record = apply(ended, admit(D2))
        assert reducers.joins(record, D2) is None
        assert (record.newest.deploy_id, record.newest.order, record.generation) == ("d2", 20, 2)
        assert (record.state, record.failure) == (PreviewState.PROVISIONING, None)
        assert admit(D2)(record) == record, "and only once"

    @pytest.mark.parametrize(("first", "other"), [(D2, D3), (D3, D2)])
    def test_of_several_that_joined_the_first_to_come_goes_on(self, first: DeployRecord, other: DeployRecord) -> None:
        ended = apply(PROVISIONING, admit(D2), admit(D3), reducers.failed(D1, CANCELLED))
        going = apply(ended, admit(first))
        assert (going.newest.deploy_id, going.newest.order) == (first.deploy_id, 30)
        assert reducers.joins(admit(other)(going), other) == first.deploy_id

    def test_an_older_one_that_wants_something_else_does_not_pass_a_cancelled_one(self) -> None:
        ended = apply(None, admit(D2), reducers.failed(D2, CANCELLED))
        assert code_of(ended, admit(D1, "other")) is Code.SUPERSEDED
        torn = apply(ended, reducers.removing(40, AT, slug="my-app", platform_id="here"))
        assert code_of(torn, admit(D1)) is Code.CANCELLED

    def test_other_inputs_or_an_ended_deploy_are_not_joined(self) -> None:
        assert reducers.joins(apply(PROVISIONING, admit(D2, "other")), D2) is None
        assert reducers.joins(apply(READY, admit(D2)), D2) is None
        assert reducers.joins(apply(PROVISIONING, reducers.failed(D1, FAILURE), admit(D2)), D2) is None


class TestOutcomes:
    def test_success(self) -> None:
        assert (READY.state, READY.failure) == (PreviewState.READY, None)
        assert READY.current == READY.last_good == revision(D1)
        assert [known.build_inputs for known in READY.images] == ["b1"]

    def test_failure_puts_the_last_good_back(self) -> None:
        record = apply(READY, admit(D2, "x"), reducers.deploying(D2, revision(D2, 2)))
        assert record.current == revision(D2, 2)
        record = apply(record, reducers.failed(D2, FAILURE))
        assert (record.state, record.current, record.failure) == (PreviewState.DEGRADED, revision(D1), FAILURE)

    def test_a_failed_first_deploy_is_kept_to_look_at(self) -> None:
        record = apply(PROVISIONING, reducers.deploying(D1, revision(D1)), reducers.failed(D1, FAILURE))
        assert (record.state, record.current, record.last_good) == (PreviewState.FAILED, revision(D1), None)

    def test_success_after_failure_clears_it(self) -> None:
        record = apply(PROVISIONING, reducers.failed(D1, FAILURE), admit(D2), reducers.succeeded(D2, revision(D2)))
        assert (record.state, record.failure) == (PreviewState.READY, None)

    def test_one_that_is_not_newest_changes_nothing(self) -> None:
        record = apply(PROVISIONING, admit(D2, "other"))
        assert not reducers.still_newest(record, D1)
        assert code_of(record, reducers.deploying(D1, revision(D1))) is Code.SUPERSEDED
        assert code_of(record, reducers.succeeded(D1, revision(D1))) is Code.SUPERSEDED
        assert apply(record, reducers.failed(D1, FAILURE)) == record

    def test_a_digest_is_remembered_whatever_happens(self) -> None:
        record = apply(PROVISIONING, admit(D2, "other"), built(D1, image("b9"), reducers.failed(D1, FAILURE)))
        assert [known.build_inputs for known in record.images] == ["b9"]
        assert (record.newest.deploy_id, record.failure) == ("d2", None)

    def test_a_digest_is_remembered_with_the_revision_that_runs_it(self) -> None:
        record = apply(PROVISIONING, built(D1, image("b9"), reducers.deploying(D1, revision(D1))))
        assert (record.current, record.images) == (revision(D1), (image("b9"),))

    def test_a_digest_that_is_known_stays_as_it_was_first_told(self) -> None:
        record = apply(PROVISIONING, built(D1, image("b1")), built(D1, image("b2")))
        later = image("b1").model_copy(update={"built_at": LATER})
        assert apply(record, built(D1, later)) == record

    def test_images_are_unique_bounded_and_newest_first(self) -> None:
        record = PROVISIONING
        for n in range(IMAGES_KEPT + 5):
            record = apply(record, built(D1, image(f"b{n}")))
        record = apply(record, built(D1, image("b10", "sha256:new")))
        assert len(record.images) == IMAGES_KEPT
        assert record.images[0] == image("b10", "sha256:new")
        assert [known.build_inputs for known in record.images].count("b10") == 1

    @pytest.mark.parametrize(
        "step",
        [
            reducers.deploying(D1, revision(D1)),
            reducers.succeeded(D1, revision(D1)),
            reducers.failed(D1, FAILURE),
            built(D1, image("b"), reducers.failed(D1, FAILURE)),
            reducers.removed(5, AT),
        ],
    )
    def test_without_a_record_is_not_found(self, step: Reducer) -> None:
        assert code_of(None, step) is Code.NOT_FOUND


class TestRemoval:
    def test_fences_deploys_that_were_accepted_before(self) -> None:
        early = deploy("early", 12)
        for record in (REMOVING, REMOVED):
            assert code_of(record, admit(early)) is Code.CANCELLED
            assert code_of(record, reducers.deploying(D1, revision(D1))) is Code.CANCELLED
            assert code_of(record, reducers.succeeded(D1, revision(D1))) is Code.CANCELLED
            assert apply(record, reducers.failed(D1, FAILURE)) == record

    def test_leaves_a_tombstone_with_order_and_generation(self) -> None:
        assert (REMOVED.removed_at, REMOVED.newest.order, REMOVED.generation) == (LATER, 15, 1)
        assert (REMOVED.current, REMOVED.last_good, REMOVED.images, REMOVED.alias_hosts) == (None, None, (), ())

    def test_without_a_record_fences_what_was_accepted_before(self) -> None:
        record = apply(None, removing(15))
        assert (record.slug, record.newest.order, record.removed_at) == ("app", 15, LATER)
        assert code_of(record, admit(deploy("early", 12))) is Code.CANCELLED
        assert apply(record, admit(deploy("late", 16))).state is PreviewState.PROVISIONING

    def test_a_new_life_goes_on_from_the_tombstone_s_generation(self) -> None:
        record = apply(REMOVED, admit(deploy("other", 40, repo="other/app"), at=LATER))
        assert (record.generation, record.repo_full_name, record.created_at) == (2, "other/app", LATER)
        assert record.removed_at is None

    def test_spares_what_was_admitted_since(self) -> None:
        record = apply(REMOVING, admit(D2))
        assert (record.current, record.last_good, record.generation) == (None, None, 2)
        assert apply(record, reducers.removed(15, LATER)) == record

    def test_an_older_teardown_is_superseded(self) -> None:
        assert code_of(apply(READY, admit(D3)), removing(25)) is Code.SUPERSEDED

    def test_can_be_repeated_with_a_newer_order(self) -> None:
        record = apply(REMOVED, removing(50), reducers.removed(50, LATER))
        assert (record.newest.order, record.removed_at) == (50, LATER)

    def test_a_tombstone_keeps_no_digest(self) -> None:
        assert apply(REMOVED, built(D1, image("b"))) == REMOVED


def test_a_teardown_that_is_repeated_is_remembered_as_long_as_the_first() -> None:
    old = REMOVED.model_copy(update={"removed_at": AT})
    again = apply(old, removing(500))
    assert (again.removed_at, again.newest.order) == (LATER, 500)
    assert code_of(again, admit(D2)) is Code.CANCELLED, "accepted before it"


@pytest.mark.parametrize("record", [None, READY, REMOVED], ids=["unknown", "ready", "removed"])
def test_what_comes_after_a_teardown_is_newer_than_whatever_the_platform_had(record: PreviewRecord | None) -> None:
    torn = apply(record, removing(500, lost=7))
    assert torn.generation == 7
    assert apply(torn, admit(deploy("d6", 600))).generation == 8
