"""What reconcile reads: a few records by themselves, many by one listing, and never all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from provider.keeper.notices import Notices
from provider.keeper.reconcile import PORTION, Reconcile
from provider.models import PreviewRecord, Revision
from provider.platforms.base import Drift, Platform
from provider.store import Store
from provider.store.kv import MemoryKeyValue
from tests.unit.test_claims import READY

PREVIEWS = 2 * PORTION + 10


class Counting(Store):
    """A store that counts what is asked of it."""

    asked = 0
    listed = 0

    async def get_preview(self, slug: str) -> PreviewRecord | None:
        self.asked += 1
        return await super().get_preview(slug)

    async def each_preview(self) -> AsyncIterator[tuple[str, PreviewRecord | None]]:
        self.listed += 1
        async for found in super().each_preview():
            yield found


class Well:
    """A platform on which nothing is amiss."""

    def __init__(self) -> None:
        self.compared: list[set[str]] = []

    async def drift(self, serving: Mapping[str, Revision]) -> dict[str, Drift]:
        self.compared.append(set(serving))
        return {}


@pytest.mark.parametrize(
    ("touched", "asked", "listed", "compared"),
    [((None,), 0, 1, PREVIEWS), (("app-1", "app-2"), 2, 0, 2), (tuple(f"app-{n}" for n in range(70)), 0, 1, 70)],
    ids=["all", "few", "many"],
)
async def test_it_reads_what_was_told(touched: tuple[Any, ...], asked: int, listed: int, compared: int) -> None:
    store, platform = Counting(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here"), Well()
    reconcile = Reconcile(
        store=store,
        platform=cast(Platform, platform),
        lock=lambda _: asyncio.Lock(),
        notices=cast(Notices, None),
        mine=lambda _: True,
    )
    for number in range(PREVIEWS):
        made = READY.model_copy(update={"slug": f"app-{number}"})
        reconcile.on_preview(await store.change_preview(made.slug, lambda _, made=made: made))  # type: ignore[misc]
    await reconcile.once()
    platform.compared.clear()
    store.asked = store.listed = 0
    for slug in touched:
        reconcile.touched(slug)
    await reconcile.once()
    assert (store.asked, store.listed, len(set().union(*platform.compared))) == (asked, listed, compared)
    assert max(map(len, platform.compared)) <= PORTION
