"""What is kept in memory of each preview, a thousand times, is its outline: nothing of what grows with its deploys."""

from __future__ import annotations

import gc
from datetime import timedelta
from typing import Any

import pytest

from provider.dashboard.board import Board
from provider.dashboard.holding import Holding
from provider.keeper.known import Known
from provider.models import BuiltImage, PastDeploy, PreviewOutline, PreviewRecord, PreviewState, Revision, now
from provider.settings import Settings
from provider.store import memory_store
from provider.store.lifetime import Policy
from tests.dashboard.site import preview

PREVIEWS = 20
MANIFESTS = tuple({"kind": kind, "spec": {"text": "x" * 1000}} for kind in ("Deployment", "Service", "Ingress"))
IMAGE = BuiltImage(build_inputs="in", digest="sha256:0", image="shop:1", built_at=now())


def record(slug: str, state: PreviewState = PreviewState.DEGRADED) -> PreviewRecord:
    made = preview(slug, 0, state)
    update: dict[str, Any] = {"platform_id": "here", "images": (IMAGE,) * 20, "history": made.history * 2}
    for name in ("current", "last_good"):
        update[name] = made.last_good and made.last_good.model_copy(update={"manifests": MANIFESTS})
    return made.model_copy(update=update)


def count(kind: type) -> int:
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


def test_an_outline_says_what_its_record_says_but_for_what_grows() -> None:
    whole = record("shop")
    outline = whole.outline()
    assert type(outline) is PreviewOutline
    assert outline.outline() is outline
    assert whole.failure is not None
    slim = whole.failure.model_copy(update={"evidence": (), "log_tail": (), "details": None})
    kept = whole.model_copy(update={"failure": slim})
    assert outline == PreviewOutline.model_validate_json(kept.model_dump_json())


@pytest.mark.parametrize("keeper", ["board", "holding", "known"])
def test_nobody_keeps_more_of_a_record_that_is_told(keeper: str) -> None:
    async def hold(slug: str, page: str) -> None: ...

    keepers: dict[str, Any] = {"board": Board(), "holding": Holding(hold), "known": Known(Policy.of(Settings()))}
    before = {kind: count(kind) for kind in (Revision, BuiltImage, PastDeploy)}
    for number in range(PREVIEWS):
        keepers[keeper].on_preview(record(f"shop-{number}"))
    assert {kind: count(kind) for kind in before} == before


async def test_a_listing_reads_no_manifests() -> None:
    store = memory_store("here")
    for number in range(PREVIEWS):
        await store.change_preview(f"shop-{number}", lambda _, slug=f"shop-{number}": record(slug))  # type: ignore[misc]
    store._wrote.clear()
    before = count(Revision)
    previews = await store.previews()
    assert [one.slug for one in previews] == sorted(f"shop-{number}" for number in range(PREVIEWS))
    assert count(Revision) == before


async def test_records_are_read_one_after_the_other() -> None:
    store = memory_store("here")
    for number in range(PREVIEWS):
        await store.change_preview(f"shop-{number}", lambda _, slug=f"shop-{number}": record(slug))  # type: ignore[misc]
    gone = {"removed_at": now() - timedelta(hours=1)}
    await store.change_preview("gone", lambda _: record("gone").model_copy(update=gone))
    await store._previews.create("preview.broken", b"{}")
    store._wrote.clear()
    before, slugs, broken = count(Revision), set[str](), set[str]()
    async for slug, found in store.each_preview():
        slugs.add(slug)
        if found is None:
            broken.add(slug)
        else:
            assert found.last_good is not None
            assert found.last_good.manifests == MANIFESTS
        assert count(Revision) <= before + 4, "the last one's, and this one's"
    assert slugs == {*(f"shop-{number}" for number in range(PREVIEWS)), "broken"}
    assert broken == {"broken"}
