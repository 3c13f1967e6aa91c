"""No more builds run at once than the machine is given; the others wait and say so."""

from __future__ import annotations

from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.helpers import SLOW_BUILD, builds_below, eventually, watched, with_settings


@with_settings(BUILDS_AT_ONCE="1")
async def test_a_build_waits_for_its_place_and_gets_it(own_world: World) -> None:
    first_files = app_files("first", own_world.base_image, dockerfile_extra=SLOW_BUILD)
    first = watched(own_world, "first", await own_world.commit("acme/first", first_files))
    await first.line("STEP")
    second_files = app_files("second", own_world.base_image)
    second = watched(own_world, "second", await own_world.commit("acme/second", second_files))
    told = await second.until(lambda event: "position" in event.data)
    assert (told.type, told.data["waits_for"], told.data["position"]) == ("state", "build", 1)
    assert len(builds_below(own_world.stack.folder)) == 1
    await own_world.client.cancel("first")
    assert (await second.result()).built is True

    async def none_left() -> bool:
        return not builds_below(own_world.stack.folder)

    await eventually(none_left)
