"""Which tags of the registry go: ours that are too many, and nothing that a record names or another pushed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from provider.platforms.needs import Kept, Needed
from provider.platforms.old_images import PLATFORM_LABEL, OldImages
from provider.platforms.registry import Registry
from provider.settings import Settings

OURS, THEIRS = {PLATFORM_LABEL: "here"}, {PLATFORM_LABEL: "elsewhere"}


class FakeRegistry:
    """Repositories of (tag, created, labels); a tag's digest is `sha256:<tag>`."""

    def __init__(self, delete: int = 202, **repositories: list[tuple[str, str, dict[str, str]]]) -> None:
        self.repositories = repositories
        self.delete = delete
        self.deleted: list[str] = []
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        _, _, *parts = request.url.path.split("/")
        if parts[0] == "_catalog":
            return httpx.Response(200, json={"repositories": [f"previews/{slug}" for slug in self.repositories]})
        _, slug, kind, name = parts
        tags = {tag: (created, labels) for tag, created, labels in self.repositories.get(slug, [])}
        if request.method == "DELETE":
            self.deleted.append(name)
            return httpx.Response(self.delete)
        if kind == "tags":
            return httpx.Response(200 if tags else 404, json={"tags": list(tags)})
        tag = name.removeprefix("sha256:").removeprefix("config-")
        if kind == "manifests":
            manifest = {"config": {"digest": f"sha256:config-{tag}"}}
            return httpx.Response(200, json=manifest, headers={"Docker-Content-Digest": f"sha256:{tag}"})
        created, labels = tags[tag]
        return httpx.Response(200, content=json.dumps({"created": created, "config": {"Labels": labels}}))


def needed(busy: Iterable[str] = (), **digests: list[str]) -> Needed:
    previews = {
        slug: Kept(3, frozenset({3}), frozenset(), frozenset(f"sha256:{one}" for one in found))
        for slug, found in digests.items()
    }
    return Needed(previews, frozenset(busy), frozenset(), frozenset(), frozenset())


def images(registry: FakeRegistry, **fields: Any) -> OldImages:
    settings = Settings(platform_id="here", registry_address="registry:5000", **{"keep_images": 2, **fields})
    http = httpx.AsyncClient(transport=httpx.MockTransport(registry))
    return OldImages(registry=Registry(settings=settings, http=http), settings=settings)


MANY = [("a", "2026-01-01", OURS), ("b", "2026-01-04", OURS), ("c", "2026-01-02", OURS), ("d", "2026-01-03", OURS)]


@pytest.mark.parametrize(
    ("named", "leaving"),
    [
        ([], {"a", "c"}),  # the newest are kept
        (["a"], {"c", "d"}),  # what the record names counts among those that are kept
        (["a", "c", "d"], {"b"}),  # and may be more than are kept else
        (["a", "b", "c", "d"], set()),
    ],
)
async def test_so_many_are_kept_and_all_that_the_record_names(named: list[str], leaving: set[str]) -> None:
    registry = FakeRegistry(shop=MANY)
    found = await images(registry).find(needed(shop=named))
    assert {one.mark.removeprefix("sha256:") for one in found} == leaving
    for one in found:
        await one.remove()
    assert {one.removeprefix("sha256:") for one in registry.deleted} == leaving


async def test_few_tags_cost_one_request() -> None:
    registry = FakeRegistry(shop=MANY[:2])
    assert await images(registry).find(needed(shop=["a"])) == []
    assert registry.asked == 2, "the catalog and the tags"


async def test_without_a_record_ours_go_and_others_stay() -> None:
    registry = FakeRegistry(gone=[("a", "1", OURS), ("b", "2", THEIRS), ("c", "3", {})])
    assert [one.name for one in await images(registry).find(needed())] == ["image/previews/gone:a"]


async def test_what_an_image_says_of_itself_is_read_once() -> None:
    registry = FakeRegistry(theirs=[("a", "1", THEIRS), ("b", "2", THEIRS)])
    old = images(registry)
    await old.find(needed())
    assert registry.asked == 2 + 2 * 3, "the catalog, the tags, and of each its digest, manifest and configuration"
    registry.asked = 0
    registry.repositories["theirs"].append(("c", "3", OURS))
    assert [one.name for one in await old.find(needed())] == ["image/previews/theirs:c"]
    assert registry.asked == 2 + 3 + 2


async def test_what_a_deploy_may_just_push_is_not_looked_at() -> None:
    assert await images(FakeRegistry(shop=MANY)).find(needed(busy=["shop"])) == []


async def test_a_registry_that_deletes_nothing_is_asked_once() -> None:
    registry = FakeRegistry(delete=405, gone=MANY)
    old = images(registry)
    for one in await old.find(needed()):
        await one.remove()
    assert len(registry.deleted) == 1
    assert await old.find(needed()) == []
