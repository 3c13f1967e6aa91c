"""The dashboard's list of many previews: how soon a person can use it in a browser."""

from __future__ import annotations

from playwright.async_api import Browser

from tests.bench.report import Row, median
from tests.dashboard.browser import chromium, tab, visit
from tests.dashboard.site import Site, many, site

PREVIEWS = 1000
LOADS, QUICK_LOADS = 9, 3
USABLE = """() => new Promise((done) => {
    const usable = () => document.documentElement.classList.contains("js")
        && document.getElementById("connection").dataset.state === "live";
    const look = () => usable()
        ? requestAnimationFrame(() => setTimeout(() => done(performance.now())))
        : requestAnimationFrame(look);
    look();
})"""
"""Milliseconds from the start of the navigation until all rows are there, are painted, and the filter listens."""
FILTER = """() => new Promise((done) => {
    const search = document.querySelector("input[type=search]");
    const began = performance.now();
    search.value = "northwind feature";
    search.dispatchEvent(new Event("input", { bubbles: true }));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""


async def rows(*, quick: bool = False) -> list[Row]:
    """The one row, of loads that have nothing in a cache."""
    async with site(many(PREVIEWS)) as one, chromium() as browser:
        found = [await _load(browser, one) for _ in range(QUICK_LOADS if quick else LOADS)]
    usable, sifted = [load for load, _ in found], [sift for _, sift in found]
    detail = (
        f"median of {len(found)} loads of {PREVIEWS} previews: from the navigation to rows painted, filter listening, "
        f"live; a filter takes {median(sifted):.0f} ms"
    )
    return [Row("dashboard: list usable", median(usable) / 1000, 1.0, "s", detail, tuple(one / 1000 for one in usable))]


async def _load(browser: Browser, one: Site) -> tuple[float, float]:
    async with tab(browser) as page:
        await visit(page, one.url)
        usable = float(await page.evaluate(USABLE))
        count = await page.locator("#rows tr").count()
        assert count == PREVIEWS, count
        sifted = float(await page.evaluate(FILTER))
        assert 0 < await page.locator("#rows tr:not([hidden])").count() < PREVIEWS
        return usable, sifted
