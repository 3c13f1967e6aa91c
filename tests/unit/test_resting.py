"""What is said of a preview at rest, and that nothing is said of one that is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from provider.errors import Code, Permanent
from provider.models import Failure, Newest, Origin, Phase, PreviewRecord, PreviewState, Revision
from provider.platforms import notes
from provider.platforms.container.upkeep import Crashes, differences
from provider.store.resting import adopted, at_rest, is_lacking, lacking, repaired, repairing

AT = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = Revision(
    generation=3, deploy_id="d", commit_sha="0" * 40, branch="main", image="i", digest="sha256:0", inputs="x",
    manifests=(), made_at=AT,
)  # fmt: skip


def preview(**fields: Any) -> PreviewRecord:
    known: dict[str, Any] = {
        "platform_id": "here", "slug": "shop", "repo_full_name": "acme/shop", "branch": "main", "url": "https://shop",
        "state": PreviewState.READY, "generation": 4, "newest": Newest(order=1, deploy_id="d"), "current": GOOD,
        "last_good": GOOD, "last_access": AT, "created_at": AT, "updated_at": AT,
    }  # fmt: skip
    return PreviewRecord(**{**known, **fields})


LOST = Failure(code=Code.SECRET_MISSING, message="gone", reason="BundleLost")
BUSY = [
    preview(state=PreviewState.PROVISIONING),
    preview(state=PreviewState.REMOVING),
    preview(state=PreviewState.FAILED, last_good=None),
    preview(removed_at=AT),
    preview(generation=5),
    None,
]


@pytest.mark.parametrize("record", BUSY)
def test_what_is_not_at_rest_at_that_generation_is_left_alone(record: PreviewRecord | None) -> None:
    for reducer in (repairing(4), repaired(4, "a"), lacking(4, LOST)):
        with pytest.raises(Permanent) as refused:
            reducer(record)
        assert refused.value.code is Code.SUPERSEDED


def test_a_repair_takes_a_generation_so_that_a_second_one_finds_it_taken() -> None:
    mine = repairing(4)(preview())
    assert (mine.generation, mine.state, mine.newest, mine.last_good) == (5, PreviewState.READY, preview().newest, GOOD)
    with pytest.raises(Permanent):
        repairing(4)(mine)


def test_what_is_lacking_is_said_and_past_when_all_is_back() -> None:
    said = lacking(4, LOST)(preview())
    assert (said.state, said.failure, is_lacking(said)) == (
        PreviewState.DEGRADED, LOST.model_copy(update={"phase": Phase.RESTORE}), True,
    )  # fmt: skip
    assert at_rest(said)
    assert lacking(4, LOST)(said) == said
    back = repaired(4, "a")(said)
    assert (back.state, back.failure, back.anchor_id) == (PreviewState.READY, None, "a")


def test_a_failed_deploy_is_still_told_of_when_something_was_put_back() -> None:
    failure = Failure(code=Code.VERIFY_FAILED, message="no", phase=Phase.VERIFY)
    degraded = preview(state=PreviewState.DEGRADED, failure=failure)
    assert repaired(4, None)(degraded) == degraded
    said = lacking(4, LOST)(degraded)
    assert said.failure == failure.model_copy(update={"evidence": ("BundleLost: gone",)})
    assert lacking(4, LOST)(said) == said


RUNS = {"State": "running", "NetworkSettings": {"Networks": {"x1-preview-shop": {}}}}
NETWORKS = frozenset({"x1-preview-shop"})


@pytest.mark.parametrize(
    ("containers", "networks", "routed", "found"),
    [
        ({"shop-g3": RUNS}, NETWORKS, {"shop": 3}, []),
        ({"shop-g2": RUNS}, NETWORKS, {"shop": 3}, ["container/shop-g3 removed"]),
        ({"shop-g3": {**RUNS, "State": "exited"}}, NETWORKS, {"shop": 3}, ["container/shop-g3 exited"]),
        (
            {"shop-g3": {**RUNS, "NetworkSettings": {"Networks": {}}}}, NETWORKS, {"shop": 3},
            ["container/shop-g3 cut from its network"],
        ),
        ({}, frozenset(), {"shop": 3}, ["network/x1-preview-shop removed", "container/shop-g3 removed"]),
        ({"shop-g3": RUNS}, NETWORKS, {}, ["ingress/shop lost"]),
        ({"shop-g3": RUNS}, NETWORKS, {"shop": 2}, ["ingress/shop changed"]),
    ],
)  # fmt: skip
def test_what_an_engine_lacks_is_named(
    containers: dict[str, Any], networks: frozenset[str], routed: dict[str, int], found: list[str]
) -> None:
    assert differences("shop", GOOD, containers, networks, routed) == found


def test_a_container_that_crashes_again_and_again_rests_longer_each_time() -> None:
    crashes, rests, moment = Crashes(), [], 0.0
    for _ in range(40):
        if (rest := crashes.died("shop-g3", moment)) is not None:
            rests.append(rest)
            assert crashes.rests("shop-g3", moment + rest - 0.1)
            assert not crashes.rests("shop-g3", moment + rest)
            moment += rest
        moment += 0.1
    assert rests == [10, 20, 40, 80, 160, 300, 300, 300]


def test_one_that_crashes_now_and_then_does_not_rest() -> None:
    crashes = Crashes()
    assert [crashes.died("shop-g3", 10.0 * number) for number in range(20)] == [None] * 20
    for number in range(5):
        crashes.died("other-g1", number)
    assert [crashes.died("other-g1", 1000.0 + number) for number in range(5)][-1] == 10, "it was calm meanwhile"


NOTED = GOOD.model_copy(update={"origin": Origin(repo_full_name="acme/shop", installation_id=7, build_inputs="b")})
PLACE: dict[str, Any] = {"slug": "shop", "platform_id": "here", "url": "https://shop", "generation": 5, "now": AT}


def test_a_note_gives_back_the_revision_that_it_is_of() -> None:
    assert notes.read(notes.write(NOTED) or "") == NOTED
    assert notes.write(GOOD) is None, "an older provider made it, and did not say where it came from"


@pytest.mark.parametrize("text", ["", "x", "eJw=", "eJyrVkrOSFWyUgIAE5IDiA==", "é"])
def test_what_is_no_note_is_none(text: str) -> None:
    assert notes.read(text) is None


def test_a_lost_record_is_made_of_what_serves() -> None:
    found = adopted(NOTED, **PLACE)(None)
    assert at_rest(found)
    assert (found.repo_full_name, found.installation_id, found.generation) == ("acme/shop", 7, 5)
    assert (found.last_good, found.newest.deploy_id, found.newest.order) == (NOTED, "d", 0)
    assert [(image.build_inputs, image.digest) for image in found.images] == [("b", "sha256:0")]


@pytest.mark.parametrize("present", [preview(), preview(removed_at=AT), preview(state=PreviewState.REMOVING)])
def test_a_record_that_is_there_is_kept_and_a_tombstone_is_one(present: PreviewRecord) -> None:
    assert adopted(NOTED, **PLACE)(present) is present
