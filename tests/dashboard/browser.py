"""Headless Chromium, driven by Playwright; and the errors that a page may not have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Error, Page, async_playwright, expect

EXECUTABLE = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = (1280, 860), (390, 844)
OF_THE_MACHINE = "ERR_NETWORK_CHANGED"
INTERRUPTED = "is interrupted by another navigation"
"""Chromium drops connections whenever this machine gets or loses a network, as it does with every preview."""

# Beside three other workers a page takes longer than the usual five seconds.
expect.set_options(timeout=15_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A running browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def tab(
    browser: Browser, size: tuple[int, int] = DESKTOP, *, errors: list[str] | None = None, **context: Any
) -> AsyncIterator[Page]:
    """A tab of its own, without another's cookies; what its console calls an error goes to `errors`."""
    width, height = size
    own = await browser.new_context(viewport={"width": width, "height": height}, **context)
    page = await own.new_page()
    page.set_default_timeout(20_000)
    told = errors if errors is not None else []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda said: told.append(said.text) if said.type == "error" else None)
    try:
        yield page
    finally:
        await own.close()


async def visit(page: Page, url: str) -> None:
    """Go there, also while the machine's networks change."""
    for last in (*9 * (False,), True):
        try:
            await page.goto(url)
        except Error as error:
            if last or not any(cause in error.message for cause in (OF_THE_MACHINE, INTERRUPTED)):
                raise
        else:
            return
