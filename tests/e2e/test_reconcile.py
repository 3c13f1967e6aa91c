"""What somebody stops, removes or loses of a preview at rest is back soon, though nobody asks for a deploy."""

from __future__ import annotations

import asyncio
import shutil

import httpx

from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.helpers import Visitor, deployed, eventually, podman, serving


async def killed(world: World, slug: str) -> None:
    await podman(world.stack, "kill", (await serving(world, slug))["Id"])


async def stopped(world: World, slug: str) -> None:
    await podman(world.stack, "stop", "--time=0", (await serving(world, slug))["Id"])


async def paused(world: World, slug: str) -> None:
    await podman(world.stack, "pause", (await serving(world, slug))["Id"])


async def removed(world: World, slug: str) -> None:
    await podman(world.stack, "rm", "--force", "--time=0", (await serving(world, slug))["Id"])


async def network_removed(world: World, slug: str) -> None:
    await podman(world.stack, "network", "rm", "--force", "--time=0", f"x1-preview-{slug}")


async def route_lost(world: World, slug: str) -> None:
    shutil.rmtree(world.stack.folder / "state" / "routes" / "slugs" / slug)


async def host_lost(world: World, slug: str) -> None:
    (world.stack.folder / "state" / "routes" / "hosts" / f"{slug}.preview.localhost").unlink()


LOSSES = [killed, stopped, paused, removed, network_removed, route_lost, host_lost]


async def up(guest: Visitor, url: str, body: str) -> None:
    async def well() -> bool:
        try:
            answer = await guest.get(url)
        except httpx.HTTPError:
            return False
        return (answer.status_code, answer.text) == (200, body)

    await eventually(well, what=f"{url} serves {body!r} again")


async def test_what_is_lost_is_back(world: World, guest: Visitor) -> None:
    """Each loss, of a preview of its own, all at once."""
    slugs = {f"keep-{lose.__name__.replace('_', '-')}": lose for lose in LOSSES}
    made = [deployed(world, slug, files=app_files(slug, world.base_image, body=f"{slug}\n")) for slug in slugs]
    done = await asyncio.gather(*made)
    for slug, lose in slugs.items():
        await lose(world, slug)
    await asyncio.gather(*(up(guest, one.url, f"{one.slug}\n") for one in done))
    assert {(await world.client.status(slug)).state for slug in slugs} == {"ready"}


async def test_what_nobody_tells_of_is_found(own_world: World, own_guest: Visitor) -> None:
    """Everything that keeps a preview up is killed or restarted while it rests, and it is up again."""
    done = await deployed(own_world, "night", extra_env={"A": "1"})
    await own_world.stack.engine.kill()
    await own_world.stack.caddy.kill()
    await own_world.stack.engine.start()
    await own_world.stack.caddy.start()
    await removed(own_world, "night")
    await up(own_guest, done.url, "hello\n")
    state = own_world.stack.folder / "state"
    shutil.rmtree(state / "routes" / "slugs" / "night")
    await up(own_guest, done.url, "hello\n")
    (bundle,) = (state / "secrets" / "bundles").glob("*.json")
    kept = bundle.rename(bundle.with_suffix(".kept"))
    await removed(own_world, "night")

    async def state_is(wanted: str) -> bool:
        return (await own_world.client.status("night")).state == wanted

    await eventually(lambda: state_is("degraded"), what="it is known to lack its secrets")
    failure = (await own_world.client.status("night")).reply["failure"]
    assert (failure["code"], failure["reason"]) == ("secret_missing", "BundleLost")
    assert "Deploy again" in failure["hint"]
    kept.rename(bundle)
    again = await deployed(own_world, "night", extra_env={"A": "1"})
    await up(own_guest, again.url, "hello\n")
    assert await state_is("ready")
