"""Visitors keep a preview alive: Caddy tells of them, whoever restarts."""

from __future__ import annotations

import pytest

from provider.client import PreviewFailed
from provider.demo.world import World
from tests.e2e.helpers import Visitor, deployed, eventually, with_settings

pytestmark = pytest.mark.timeout(180)


@with_settings(PREVIEW_TTL_SECONDS="12")
async def test_a_visited_preview_lives_on_and_another_does_not(own_world: World, own_guest: Visitor) -> None:
    visited, unused = await deployed(own_world, "visited"), await deployed(own_world, "unused")

    async def gone() -> bool:
        assert (await own_guest.get(visited.url)).status_code == 200
        try:
            await own_world.client.status("unused")
        except PreviewFailed as failed:
            return failed.code == "not_found"
        return False

    await eventually(gone, timeout=60, what="nobody visits it")
    gone_page = await own_guest.get(unused.url)
    assert (gone_page.status_code, "X-Preview-Holding" in gone_page.headers) == (503, True)
    before = (await own_world.client.status("visited")).reply["last_access"]
    await own_world.stack.caddy.kill()
    await own_world.stack.caddy.start()

    async def heard() -> bool:
        assert (await own_guest.get(visited.url)).status_code == 200
        return bool((await own_world.client.status("visited")).reply["last_access"] > before)

    await eventually(heard, timeout=60, what="a visit is told after Caddy was killed")
