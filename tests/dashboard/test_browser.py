"""Pages as people have them: in Chromium, by keyboard, on a phone, without script, while providers come and go."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from provider.demo.processes import free_port
from provider.models import PreviewState, now
from tests.dashboard.browser import DESKTOP, OF_THE_MACHINE, PHONE, tab, visit
from tests.dashboard.site import Engine, Site, Words, deploy, many, preview, site

pytestmark = pytest.mark.timeout(90)
PATIENCE = 20_000
LONG = Words("a-very-long-word-without-any-place-to-break-it-" * 8)


@pytest.fixture
async def shown() -> AsyncIterator[Site]:
    """Forty previews, and one of each kind that has a page worth looking at."""
    kinds = [
        preview("basket", 1, PreviewState.DEGRADED),
        preview("fresh", 0, PreviewState.PROVISIONING),
        preview("wordy", 4, PreviewState.DEGRADED, LONG),
    ]
    engine = Engine(app_lines=["the app said this"], build_lines=[f"build line {number}" for number in range(200)])
    async with site([*kinds, *many(40)], engine=engine, port=free_port()) as one:
        for record in kinds:
            await one.store.create_deploy(deploy(record, LONG if record.slug == "wordy" else Words()))
        yield one


def unexpected(errors: list[str]) -> list[str]:
    return [error for error in errors if OF_THE_MACHINE not in error]


async def test_the_list_follows_is_filtered_by_keyboard_and_survives_a_restart(browser: Browser, shown: Site) -> None:
    errors: list[str] = []
    async with tab(browser, errors=errors) as page:
        await visit(page, shown.url)
        await expect(page.locator("#connection")).to_have_text("live", timeout=PATIENCE)
        await expect(page.locator("#rows tr:not([hidden])")).to_have_count(43)
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to the content")).to_be_focused()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("searchbox", name="Name, repository, branch, commit or session")).to_be_focused()
        await page.keyboard.type("acme/shop feature")
        await expect(page.locator("#rows tr:not([hidden])").first).to_contain_text("acme/shop")
        await expect(page.get_by_role("status").filter(has_text="of 43 previews")).to_be_attached()
        assert await page.locator("#rows tr:not([hidden])").count() < 10
        await page.get_by_role("searchbox").fill("")
        await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowRight")  # radio buttons: from all to the first state
        await expect(page.locator("#rows tr:not([hidden])")).to_have_count(3)
        await expect(page).to_have_url(re.compile(r"\?state=provisioning$"))
        await page.keyboard.press("ArrowLeft")

        await shown.put([preview("just-now", 0, PreviewState.PROVISIONING).model_copy(update=first())])
        newest = page.locator("#rows tr").first
        await expect(newest).to_contain_text("just-now")
        await shown.put([preview("just-now").model_copy(update=first())])
        await expect(newest).to_contain_text("ready")

        await page.get_by_role("link", name="just-now", exact=True).focus()
        await shown.stop()
        await expect(page.locator("#connection")).to_have_text("reconnecting …", timeout=PATIENCE)
        gone, state = preview("basket").model_copy(update={"removed_at": now()}), PreviewState.FAILED
        await shown.put([gone, preview("shop-0000", 0, state)])
        await shown.start()
        await expect(page.locator("#connection")).to_have_text("live", timeout=PATIENCE)
        await expect(page.locator("#row-basket")).to_have_count(0)
        await expect(page.locator("#row-shop-0000")).to_contain_text("failed")
        await expect(page.get_by_role("link", name="just-now", exact=True)).to_be_focused()
    assert [one for one in unexpected(errors) if "ERR_CONNECTION_REFUSED" not in one and "INCOMPLETE" not in one] == []


def first() -> dict[str, object]:
    record = preview("just-now")
    return {"newest": record.newest.model_copy(update={"order": 200_000})}


async def test_a_preview_is_told_as_it_happens(browser: Browser, shown: Site) -> None:
    errors: list[str] = []
    async with tab(browser, errors=errors) as page:
        await visit(page, f"{shown.url}/previews/fresh")
        await expect(page.locator("#connection")).to_have_text("live", timeout=PATIENCE)
        await expect(page.locator(".step-running")).to_contain_text("build")
        await expect(page.get_by_role("region", name="Build log")).to_contain_text("build line 199")
        await expect(page.get_by_role("region", name="App log")).to_contain_text("the app said this")
        record = preview("fresh", 0, PreviewState.FAILED)
        created = await shown.store.get_deploy("d-fresh")
        assert created is not None
        ended = deploy(record).model_copy(update={"owner": created.owner, "order": created.order})
        await shown.store.save_deploy(ended)
        await shown.put([record])
        await expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
        await expect(page.locator(".step-failed")).to_contain_text("build")
        await expect(page.get_by_role("status").filter(has_text="failed")).to_contain_text("nothing served before it")
        await expect(page.get_by_role("img", name="resolve 310 ms").first).to_be_visible()
        await shown.put([record.model_copy(update={"removed_at": now()})])
        await expect(page.get_by_role("heading", name="There is no preview")).to_be_visible()
    assert [one for one in unexpected(errors) if "404" not in one] == []


async def test_nothing_is_wider_than_a_phone(browser: Browser, shown: Site) -> None:
    for size in (PHONE, (320, 600), DESKTOP):
        async with tab(browser, size) as page:
            for path in ("/", "/previews/basket", "/previews/wordy", "/login", "/previews/absent"):
                await visit(page, shown.url + path)
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width <= size[0], (path, size)


async def test_it_is_dark_where_people_want_that(browser: Browser, shown: Site) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        async with tab(browser, color_scheme=scheme) as page:
            await visit(page, f"{shown.url}/previews/basket")
            grounds.append(await page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    light, dark = (sum(map(int, re.findall(r"\d+", ground)[:3])) for ground in grounds)
    assert light > 700
    assert dark < 100


async def test_pages_are_whole_without_script(browser: Browser, shown: Site) -> None:
    async with tab(browser, java_script_enabled=False) as page:
        await visit(page, shown.url)
        await page.get_by_role("searchbox").fill("acme/docs")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator("#rows tr:not([hidden])").first).to_contain_text("acme/docs")
        await expect(page.locator("#row-checkout-0001")).to_be_hidden()
        await visit(page, f"{shown.url}/previews/basket")
        for name in ("Why it failed", "Newest deploy", "Checks", "Build log", "App log", "History"):
            await expect(page.get_by_role("heading", name=name)).to_be_visible()
        await expect(page.get_by_role("region", name="Build log")).to_contain_text("build line 199")
        assert re.search(r"\d+ \w{3} \d{4}, \d\d:\d\d UTC", await page.locator(".facts").first.inner_text())


async def test_a_screen_reader_finds_its_way(browser: Browser, shown: Site) -> None:
    async with tab(browser) as page:
        await visit(page, shown.url)
        table = page.get_by_role("table", name="Previews, the one deployed last first")
        await expect(table.get_by_role("columnheader")).to_have_count(7)
        first_row = table.get_by_role("row").nth(1)
        await expect(first_row.get_by_role("rowheader")).to_contain_text("fresh")
        await expect(first_row.get_by_role("cell").first).to_have_text("deploying")
        await expect(page.get_by_role("search", name="Filter the previews").get_by_role("radio")).to_have_count(5)
        await visit(page, f"{shown.url}/previews/basket")
        levels = await page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        unnamed = await page.evaluate(UNNAMED)
        assert unnamed == []


UNNAMED = """() => [...document.querySelectorAll("a, button, input, [role=region], [role=img], section, table")]
    .filter(one => one.offsetParent && !one.textContent.trim() && !one.getAttribute("aria-label")
        && !one.getAttribute("aria-labelledby") && !one.labels?.length).map(one => one.outerHTML)"""


async def test_the_token_is_asked_for_once(browser: Browser) -> None:
    async with site([preview("shop")], dashboard_token="a-token-of-the-tests") as one, tab(browser) as page:
        await visit(page, f"{one.url}/previews/shop")
        await expect(page).to_have_url(re.compile("/login$"))
        await page.get_by_label("Token").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        await page.get_by_label("Token").fill("a-token-of-the-tests")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("link", name="shop", exact=True)).to_be_visible()
        await expect(page.locator("#connection")).to_have_text("live", timeout=PATIENCE)
