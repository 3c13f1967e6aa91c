"""What a URL shows while nothing serves there: as much as a stranger may know, kept as it should be now."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from provider.background import ended
from provider.dashboard.holding import GONE_AGE, Holding, HoldingPages
from provider.errors import Code, Temporary
from provider.models import Phase, PreviewState, now
from tests.dashboard.site import Words, preview

PAGES = HoldingPages()
HOSTILE = Words("<img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e")


def test_it_tells_how_far_a_deploy_is() -> None:
    page = PAGES.page(preview("shop", 0, PreviewState.PROVISIONING), Phase.BUILD)
    steps = re.findall(r'<li class="(\w+)"><span class="mark" aria-hidden="true"></span>(\w+)', page)
    assert steps == [
        ("done", "resolve"), ("done", "admit"), ("now", "build"), ("ahead", "deploy"), ("ahead", "rollout"),
        ("ahead", "verify"),
    ]  # fmt: skip


def test_after_the_last_phase_none_is_told_as_ahead() -> None:
    page = PAGES.page(preview("shop", 0, PreviewState.PROVISIONING), Phase.PUBLISH)
    assert page.count('<li class="done">') == 6


def test_it_tells_why_a_first_deploy_failed_and_no_more() -> None:
    record = preview("shop", 0, PreviewState.FAILED)
    page = PAGES.page(record, None)
    assert record.failure is not None
    assert all(str(told) in page for told in (record.failure.code.value, record.failure.reason, record.failure.hint))
    secrets = (record.repo_full_name, record.branch, "session-4821", record.failure.message, *record.failure.log_tail)
    assert not any(secret in page for secret in secrets)
    degraded = PAGES.page(preview("shop", 0, PreviewState.DEGRADED), None)
    assert "kaniko_build_failed" not in degraded, "what failed beside what serves is nothing for a visitor"


def test_nothing_in_it_is_markup_of_others() -> None:
    page = PAGES.page(preview("shop", 0, PreviewState.FAILED, HOSTILE), None)
    assert "<img" not in page
    assert "49" not in re.sub(r"<style>.*?</style>|sha256-\S+", "", page, flags=re.DOTALL)
    assert "\u202e" not in page


@pytest.mark.parametrize("kind", ["style", "script"])
def test_its_policy_allows_its_own_style_and_script_alone(kind: str) -> None:
    page = PAGES.page(preview("shop"), None)
    inline = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
    assert len(inline) == 1
    digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}';" in page
    assert "unsafe-" not in page


class Ingress:
    """Keeps pages, after so many refusals."""

    def __init__(self, refusals: int = 0) -> None:
        self.pages: dict[str, str] = {}
        self.writes = 0
        self.refusals = refusals
        self.written = asyncio.Event()

    async def hold(self, slug: str, page: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Temporary(Code.PLATFORM_UNREACHABLE, "not now")
        self.pages[slug], self.writes = page, self.writes + 1
        self.written.set()

    async def until(self, fits: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not fits():
                self.written.clear()
                await self.written.wait()


def now_in(page: str) -> list[str]:
    return re.findall(r'<li class="now"><span class="mark" aria-hidden="true"></span>(\w+)', page)


async def test_pages_follow_records_and_phases_and_are_written_only_when_they_change() -> None:
    ingress = Ingress()
    holding = Holding(ingress.hold, again_seconds=0.01)
    task = asyncio.create_task(holding.run())
    fresh = preview("shop", 0, PreviewState.PROVISIONING)
    holding.on_phase("shop", Phase.BUILD)  # it may be told before the watch tells of the record
    holding.on_preview(fresh)
    await ingress.until(
        lambda: '"now"><span class="mark" aria-hidden="true"></span>build' in ingress.pages.get("shop", "")
    )
    holding.on_preview(fresh.model_copy(update={"last_access": now() + timedelta(1)}))
    holding.on_phase("shop", Phase.VERIFY)
    await ingress.until(lambda: now_in(ingress.pages.get("shop", "")) == ["build"])
    holding.on_preview(fresh.model_copy(update={"last_access": now() + timedelta(1)}))
    holding.on_phase("shop", Phase.VERIFY)
    await ingress.until(lambda: now_in(ingress.pages["shop"]) == ["verify"])
    assert ingress.writes == 2
    holding.on_preview(fresh.model_copy(update={"removed_at": now()}))
    await ingress.until(lambda: "<h1>Gone</h1>" in ingress.pages["shop"])
    await ended([task])


async def test_a_page_that_cannot_be_kept_is_tried_again_and_holds_up_no_other() -> None:
    ingress = Ingress(refusals=1)
    holding = Holding(ingress.hold, again_seconds=0.01)
    holding.on_preview(preview("first"))
    holding.on_preview(preview("second"))
    task = asyncio.create_task(holding.run())
    await ingress.until(lambda: set(ingress.pages) == {"first", "second"})
    await ended([task])


def test_what_went_is_remembered_for_a_day() -> None:
    holding = Holding(Ingress().hold)
    holding.on_preview(preview("living"))
    holding.on_preview(preview("lost"))
    holding.on_preview(preview("went").model_copy(update={"removed_at": now()}))
    holding.on_preview(preview("long-ago").model_copy(update={"removed_at": now() - GONE_AGE - timedelta(1)}))
    holding.forget(frozenset({"lost", "went", "long-ago"}))
    assert holding.slugs == {"living", "went"}
