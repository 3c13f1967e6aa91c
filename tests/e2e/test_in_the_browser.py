"""What people see of a real deploy: at its URL before the app is there, and on the dashboard while it goes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from provider.demo.world import World
from tests.dashboard.browser import chromium, tab, visit
from tests.e2e.apps import IMPATIENT, app_files
from tests.e2e.helpers import Visitor, log_lines, refused_deploy, watched

pytestmark = pytest.mark.timeout(180)
PATIENCE = 30_000


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


async def dashboard(world: World, page: Page, path: str) -> None:
    await visit(page, f"http://{log_lines(world, 'provider.ready')[-1]['http']}{path}")


async def test_a_first_deploy_is_seen_from_both_sides(world: World, guest: Visitor, browser: Browser) -> None:
    body = "<!doctype html><title>App</title><h1>The app</h1>"
    slow = 'RUN i=0; while [ "$i" -lt 5 ]; do i=$((i+1)); echo "line number $i"; sleep 1; done'
    sha = await world.commit("acme/seen", app_files("seen", world.base_image, body=body, dockerfile_extra=slow))
    async with tab(browser, ignore_https_errors=True) as at_url, tab(browser) as beside:
        watch = watched(world, "seen", sha)
        await watch.line("line number 1")
        url = f"https://seen.preview.localhost:{world.stack.ingress.rpartition(':')[2]}"
        held = await guest.get(url)
        assert (held.status_code, held.headers["Retry-After"]) == (503, "2")
        assert "X-Preview-Commit" not in held.headers
        assert not re.search(r"acme|line number|" + sha[:7], held.text), "a stranger learns no more than the state"
        await visit(at_url, url)
        await expect(at_url.get_by_role("heading", name="Being deployed")).to_be_visible()
        await expect(at_url.locator("li.now")).to_contain_text("build")

        await dashboard(world, beside, "/")
        await beside.locator("#row-seen").get_by_role("link", name="seen", exact=True).click()
        await expect(beside.locator(".step-running")).to_contain_text("build", timeout=PATIENCE)
        build_log = beside.get_by_role("region", name="Build log")
        await expect(build_log).to_contain_text("line number 5", timeout=PATIENCE)
        await watch.result()
        await expect(at_url.get_by_role("heading", name="The app")).to_be_visible(timeout=PATIENCE)
        await expect(beside.get_by_role("status").filter(has_text="serves and is verified")).to_be_visible(
            timeout=PATIENCE
        )
        await expect(beside.locator(".part-checks")).to_contain_text("GET /", timeout=PATIENCE)
        await expect(beside.locator(".part-pods")).to_contain_text("seen-g", timeout=PATIENCE)
        await expect(beside.locator(".history .outcome")).to_contain_text("succeeded")
        text = await build_log.inner_text()
        assert [text.count(f"\nline number {number}\n") for number in range(1, 6)] == [1] * 5, text

        await world.client.teardown("seen")
        await expect(beside.get_by_role("heading", name="There is no preview")).to_be_visible(timeout=PATIENCE)
        await visit(at_url, url)
        await expect(at_url.get_by_role("heading", name="Gone")).to_be_visible(timeout=PATIENCE)
        assert (await guest.get(url)).status_code == 503


async def test_a_failed_first_deploy_says_why_at_its_url(world: World, guest: Visitor, browser: Browser) -> None:
    files = app_files("unborn", world.base_image, command="echo the log is secret; exit 3", spec_extra=IMPATIENT)
    failed = await refused_deploy(world, "unborn", files)
    url = f"https://unborn.preview.localhost:{world.stack.ingress.rpartition(':')[2]}"
    async with tab(browser, ignore_https_errors=True) as page:
        await visit(page, url)
        await expect(page.get_by_role("heading", name="Not deployed")).to_be_visible(timeout=PATIENCE)
        for told in (failed.code, failed.reason, failed.hint):
            await expect(page.locator("main")).to_contain_text(str(told))
    held = (await guest.get(url)).text
    assert "the log is secret" not in held
    assert failed.message not in held
