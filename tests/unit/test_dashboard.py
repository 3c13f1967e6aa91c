"""What the dashboard makes of records, and that people can read its colours."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from importlib import resources

import pytest
from pydantic import SecretStr, ValidationError

from provider.dashboard.board import Board
from provider.dashboard.views import history, readable, row, seconds_text, shown, steps, web_address
from provider.models import Phase, PreviewState, now
from provider.settings import Settings
from provider.store.lifetime import Policy
from tests.dashboard.site import deploy, preview

CSS = resources.files("provider.dashboard").joinpath("static", "dashboard.css").read_text()


def test_a_reader_gets_what_changed_since_its_mark() -> None:
    board = Board()
    board.on_preview(preview("a", 2))
    board.on_preview(preview("b", 1))
    mark = board.all().mark
    assert [one.slug for one in board.all().changed] == ["b", "a"], "the last deployed first"
    changed = preview("a", 2, PreviewState.FAILED)
    board.on_preview(changed)
    board.on_preview(preview("b", 1).model_copy(update={"removed_at": now()}))
    news = board.since(mark)
    assert ([one.slug for one in news.changed], news.gone, news.whole) == (["a"], ("b",), False)
    board.on_preview(changed)
    assert board.since(news.mark).changed == (), "the same again is no news"


@pytest.mark.parametrize("mark", ["", "x", "another-1", "{epoch}-99", "{epoch}--1", "{epoch}-1e9", "{epoch}-²"])
def test_a_mark_that_means_nothing_here_gets_everything(mark: str) -> None:
    board = Board()
    board.on_preview(preview("a"))
    epoch = board.all().mark.partition("-")[0]
    news = board.since(mark.format(epoch=epoch))
    assert (news.whole, len(news.changed)) == (True, 1)


def test_a_mark_from_before_what_is_remembered_gets_everything() -> None:
    board = Board(most_gone=2)
    mark = board.all().mark
    for slug in "abcd":
        board.on_preview(preview(slug))
        board.on_preview(preview(slug).model_copy(update={"removed_at": now()}))
    assert board.since(mark).whole


async def test_who_waits_for_a_change_gets_the_next_one() -> None:
    board = Board()
    waiting = asyncio.create_task(board.change(board.all().mark))
    await asyncio.sleep(0)
    assert not waiting.done()
    board.on_preview(preview("a"))
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(board.change("another-1"), 1)


def test_a_search_finds_every_word_in_any_field() -> None:
    one = row(preview("basket", 4), Policy.of(Settings()))
    assert all(
        shown(one, search, "") for search in ("", "BASKET", "northwind main", "session-4821", "3f9c2ab5d0e1", "ready")
    )
    assert not any(shown(one, search, "") for search in ("basket absent", "acme"))
    assert shown(one, "", "ready")
    assert not shown(one, "", "failed")


def test_the_phases_of_a_deploy_are_told_as_far_as_it_is() -> None:
    def told(record: object, *, waits: bool = False) -> list[str]:
        return [step.state for step in steps(record, waits)]  # type: ignore[arg-type]

    running = deploy(preview("a", 0, PreviewState.PROVISIONING))
    assert told(running) == ["done", "done", "running", "ahead", "ahead", "ahead"]
    assert told(running, waits=True)[2] == "waiting"
    begun = next(step.since for step in steps(running, False) if step.since)
    assert begun == running.created_at + timedelta(seconds=0.35)
    assert told(deploy(preview("a"))) == ["done"] * 6
    assert told(deploy(preview("a", 0, PreviewState.FAILED))) == ["done", "done", "failed", "ahead", "ahead", "ahead"]


def test_the_chart_is_to_one_scale() -> None:
    chart = history(preview("a").history)
    longest = max(chart, key=lambda one: sum(bar.width for bar in one.bars))
    assert sum(bar.width for bar in longest.bars) == pytest.approx(1000, abs=10)
    assert [bar.phase for bar in chart[0].bars] == [phase.value for phase in list(Phase)[:6]]
    assert chart[1].code == "kaniko_build_failed"
    assert all(
        before.x + before.width <= after.x + 0.2
        for before, after in zip(chart[0].bars, chart[0].bars[1:], strict=False)
    )
    assert history(()) == ()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 ms"), (0.31, "310 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s")]
)
def test_durations_are_told_as_people_read_them(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_what_steers_a_terminal_is_not_shown() -> None:
    assert readable("\x1b[1;31mred\x1b[0m \x1b]0;title\x07text\x00\u202e") == "red text"
    assert readable("tab\tand\nline") == "tab\tand\nline"


def test_only_web_addresses_are_links() -> None:
    assert web_address("https://a.example") == "https://a.example"
    assert [web_address(url) for url in ("javascript:alert(1)", "data:text/html,x", " https://a", "//a", "")] == [
        ""
    ] * 5


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValidationError, match="16 characters"):
        Settings(dashboard_token=SecretStr("short"))
    assert Settings(dashboard_token=SecretStr("x" * 16)).secrets() >= {"x" * 16}, "and it is masked wherever it shows"


# ------------------------------------------------------------------------------- colours


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


LIGHT, DARK = (colours(block) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2])
PAIRS = [
    (ink, ground)
    for ground in ("ground", "sheet", "sunk", "failed-sheet")
    for ink in ("ink", "quiet", "link", "ready", "provisioning", "degraded", "failed", "other")
]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_stands_out_from_every_ground(scheme: dict[str, str]) -> None:
    assert scheme.keys() == LIGHT.keys()
    found = {(ink, ground): round(contrast(scheme[ink], scheme[ground]), 2) for ink, ground in PAIRS}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}


def test_what_pages_load_is_in_the_package() -> None:
    package = resources.files("provider.dashboard")
    assert {one.name for one in package.joinpath("static").iterdir()} == {"dashboard.css", "dashboard.js", "icon.svg"}
    assert package.joinpath("templates", "sections", "head.html").is_file()
    assert not re.findall(r"url\(|@import|https?://", CSS)
