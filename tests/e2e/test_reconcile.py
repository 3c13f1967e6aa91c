"""What somebody stops, removes or loses of a preview at rest is back soon, though nobody asks for a deploy."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator

import httpx
import pytest

from provider.demo.world import World, local_world
from tests.e2e.apps import app_files
from tests.e2e.helpers import Visitor, containers, deployed, eventually, podman, serving, visitor
from tests.zygote import Forked


@pytest.fixture(scope="module")
async def sweeping() -> AsyncIterator[World]:
    """A world of these tests' own, whose provider sweeps all the time."""
    quick = {"SWEEP_SECONDS": "0.3", "SWEEP_GRACE": "1", "KEEP_IMAGES": "1", "VERIFY_TIMEOUT": "5"}
    async with local_world(environment=quick, kind=Forked) as own:
        yield own


@pytest.fixture(scope="module")
async def visiting(sweeping: World) -> AsyncIterator[Visitor]:
    """A visitor of its previews."""
    async with visitor(sweeping.stack) as one:
        yield one


async def killed(world: World, slug: str) -> None:
    await podman(world.stack, "kill", (await serving(world, slug))["Id"])


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


LOSSES = [(killed, host_lost), (removed, route_lost), (paused,), (network_removed,)]


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
    slugs = {f"keep-{number}": losses for number, losses in enumerate(LOSSES)}
    made = [deployed(world, slug, files=app_files(slug, world.base_image, body=f"{slug}\n")) for slug in slugs]
    done = await asyncio.gather(*made)
    for slug, losses in slugs.items():
        for lose in losses:
            await lose(world, slug)
    await asyncio.gather(*(up(guest, one.url, f"{one.slug}\n") for one in done))
    assert {(await world.client.status(slug)).state for slug in slugs} == {"ready"}


async def test_what_nobody_tells_of_is_found(sweeping: World, visiting: Visitor) -> None:
    """Everything that keeps a preview up is killed or restarted while it rests, and it is up again."""
    done = await deployed(sweeping, "night", extra_env={"A": "1"})
    await sweeping.stack.engine.kill()
    await sweeping.stack.caddy.kill()
    await sweeping.stack.engine.start()
    await sweeping.stack.caddy.start()
    await removed(sweeping, "night")
    await up(visiting, done.url, "hello\n")
    state = sweeping.stack.folder / "state"
    shutil.rmtree(state / "routes" / "slugs" / "night")
    await up(visiting, done.url, "hello\n")
    (bundle,) = (state / "secrets" / "bundles").glob("*.json")
    kept = bundle.rename(bundle.with_suffix(".kept"))
    await removed(sweeping, "night")

    async def state_is(wanted: str) -> bool:
        return (await sweeping.client.status("night")).state == wanted

    await eventually(lambda: state_is("degraded"), what="it is known to lack its secrets")
    failure = (await sweeping.client.status("night")).reply["failure"]
    assert (failure["code"], failure["reason"]) == ("secret_missing", "BundleLost")
    assert "Deploy again" in failure["hint"]
    kept.rename(bundle)
    again = await deployed(sweeping, "night", extra_env={"A": "1"})
    await up(visiting, again.url, "hello\n")
    assert await state_is("ready")


async def test_what_no_record_needs_goes(sweeping: World, visiting: Visitor) -> None:
    """A preview without record and container, a bundle, staged secrets, a build of nobody; a build under way stays."""
    kept, lost = await asyncio.gather(
        deployed(sweeping, "kept", extra_env={"A": "1"}), deployed(sweeping, "lost", extra_env={"A": "1"})
    )
    slow = app_files("slow", sweeping.base_image, dockerfile_extra="RUN sleep 3")
    under_way = asyncio.create_task(deployed(sweeping, "slow", files=slow, extra_env={"A": "1"}))
    state = sweeping.stack.folder / "state"
    (state / "secrets" / "staged" / "old.json").write_text("{}")
    (state / "builds" / "nobodys" / "tree").mkdir(parents=True)
    old = {"slug": "kept", "generation": 0, "values": {}}
    (state / "secrets" / "bundles" / "old.json").write_text(json.dumps(old))
    bucket = await sweeping.client.nats.jetstream().key_value("x1_provider_preview_previews")
    await bucket.purge("preview.lost")
    await removed(sweeping, "lost")

    async def swept() -> bool:
        left = [
            path.name for path in (state / "secrets").glob("*/*.json") if path.stem == "old" or "-lost-" in path.stem
        ]
        nets = await podman(sweeping.stack, "network", "ls", "--format={{.Name}}")
        gone = "X-Preview-Commit" not in (await visiting.get(lost.url)).headers and not await containers(
            sweeping.stack, "lost"
        )
        return gone and not left and "x1-preview-lost" not in nets and not (state / "builds" / "nobodys").exists()

    await eventually(swept, what="all that nothing needs is gone")
    await up(visiting, kept.url, "hello\n")
    await up(visiting, (await under_way).url, "hello\n")
    async with httpx.AsyncClient(trust_env=False) as http:
        tags = [
            (await http.get(f"http://{sweeping.stack.registry.address}/v2/previews/{slug}/tags/list"))
            .json()
            .get("tags")
            for slug in ("kept", "lost")
        ]
    assert tags == [[kept.commit_sha[:12]], None]


async def test_a_preview_whose_record_was_lost_gets_one_again(sweeping: World, visiting: Visitor) -> None:
    """Made of what its container says: whose it is, what it serves, and of what it was built."""
    done = await deployed(sweeping, "found", extra_env={"A": "1"})
    before = (await sweeping.client.status("found")).reply
    bucket = await sweeping.client.nats.jetstream().key_value("x1_provider_preview_previews")
    await bucket.purge("preview.found")

    async def adopted() -> bool:
        return "found" in {one.slug for one in (await sweeping.client.list()).previews}

    await eventually(adopted, what="it has a record again")
    after = (await sweeping.client.status("found")).reply
    same = ("repo_full_name", "branch", "url", "state", "generation", "last_good")
    assert [after[name] for name in same] == [before[name] for name in same]
    await up(visiting, done.url, "hello\n")
    again = await deployed(sweeping, "found", extra_env={"A": "1"})
    assert (again.built, again.commit_sha == done.commit_sha) == (False, True)
    await killed(sweeping, "found")
    await up(visiting, done.url, "hello\n")
