"""What must hold of a preview on this machine when nothing is under way any more, whoever died meanwhile.

Judged from outside: by what Podman itself lists, the files that Caddy reads, what the URL answers, what stands in the
provider's folder, what the registry keeps, and what the records say.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from provider import names
from provider.demo.stack import Stack
from provider.models import PreviewRecord, PreviewState, Revision
from provider.platforms.container.routes import RouteTable
from provider.platforms.container.workload import SLUG_LABEL
from provider.store import Store
from tests.crash.invariants import FINAL
from tests.e2e.helpers import Visitor

Json = dict[str, Any]

REVISION = "org.opencontainers.image.revision"
CREATED = "org.opencontainers.image.created"
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"}
LIBPOD = "http://podman/v4.0.0/libpod"


@asynccontextmanager
async def engine_judge(
    stack: Stack, store: Store, guest: Visitor, bodies: Mapping[str, str]
) -> AsyncIterator[EngineJudge]:
    """A judge with connections to Podman's service and the registry. `bodies`: what is served, by commit."""
    socket = httpx.AsyncHTTPTransport(uds=stack.engine.address.removeprefix("unix://"))
    async with (
        httpx.AsyncClient(transport=socket, base_url=LIBPOD, timeout=30) as engine,
        httpx.AsyncClient(base_url=f"http://{stack.registry.address}/v2", trust_env=False) as registry,
    ):
        yield EngineJudge(stack, store, guest, bodies, engine, registry)


@dataclass
class EngineJudge:
    """Finds what is wrong with one preview."""

    stack: Stack
    store: Store
    guest: Visitor
    bodies: Mapping[str, str]
    engine: httpx.AsyncClient
    registry: httpx.AsyncClient

    async def violations(self, slug: str) -> list[str]:
        """Each as `invariant: what was seen`."""
        record = await self.store.get_preview(slug)
        unfinished = [one for one in await self.store.unfinished_deploys() if one.slug in {slug, None}]
        found = [f"record not final: deploy {one.deploy_id} in {one.phase}" for one in unfinished]
        there = await self._objects(slug)
        bundles = {title for title in there if title.startswith("secret/")}
        if record is None or record.removed_at is not None:
            return found + [f"object without record: {title}" for title in sorted(there)]
        if record.state not in FINAL:
            found.append(f"record not final: {record.state}")
        good = record.last_good
        revisions = [one for one in (record.current, good) if one is not None]
        wanted = {f"secret/{one.bundle.name}" for one in revisions if one.bundle is not None}
        found += [f"left over: {title}" for title in sorted(bundles - wanted)]
        found += [f"record without object: {title}" for title in sorted(wanted - bundles)]
        if good is None:
            return found + self._of_failed_first(record, there)
        return found + self._of_serving(slug, good, there) + await self._served(record.url, good)

    async def left_over(self, slugs: list[str]) -> list[str]:
        """What belongs to no preview at all."""
        state = self.stack.folder / "state"
        containers, networks = await self._containers(), await self._networks()
        ours = {names.network(slug) for slug in slugs}
        return [
            *(f"left over: container {one}" for one in containers if one.rpartition("-g")[0] not in slugs),
            *(f"left over: network {one}" for one in networks if one.startswith("x1-") and one not in ours),
            *(f"left over: build {one.name}" for one in (state / "builds").glob("*") if one.is_dir()),
            *(f"left over: staged secret {one.name}" for one in (state / "secrets" / "staged").glob("*")),
            *(f"left over: process {one}" for one in _processes(str(state / "builds"))),
        ]

    async def images(self, slug: str) -> list[tuple[str, float]]:
        """Commit and time of every image that the registry ever got of a preview: each build makes another one."""
        root = self.stack.folder / "registry/docker/registry/v2/repositories/previews" / slug / "_manifests/revisions"
        found = []
        for folder in (root / "sha256").glob("*"):
            manifest = await self.registry.get(f"/previews/{slug}/manifests/sha256:{folder.name}", headers=ACCEPT)
            if manifest.is_success:
                config = await self.registry.get(f"/previews/{slug}/blobs/{manifest.json()['config']['digest']}")
                labels = config.json()["config"]["Labels"]
                found.append((labels[REVISION], datetime.fromisoformat(labels[CREATED]).timestamp()))
        return sorted(found)

    # ------------------------------------------------------------------ parts

    async def _containers(self) -> dict[str, Json]:
        found = (await self.engine.get("/containers/json", params={"all": "true"})).raise_for_status()
        return {str(one["Names"][0]).lstrip("/"): one for one in found.json()}

    async def _networks(self) -> list[str]:
        return [str(one["name"]) for one in (await self.engine.get("/networks/json")).raise_for_status().json()]

    async def _objects(self, slug: str) -> dict[str, Any]:
        """Everything of a preview on this machine, by its title."""
        found: dict[str, Any] = {}
        for name, one in (await self._containers()).items():
            if (one.get("Labels") or {}).get(SLUG_LABEL) == slug:
                found[f"container/{name}"] = one
        if names.network(slug) in await self._networks():
            found["network"] = True
        state = self.stack.folder / "state"
        if (route := RouteTable(state / "routes").get(slug)) is not None:
            found["route"] = route
        for bundle in (state / "secrets" / "bundles").glob("*.json"):
            if json.loads(bundle.read_text())["slug"] == slug:
                found[f"secret/{bundle.stem}"] = True
        return found

    def _of_failed_first(self, record: PreviewRecord, there: Mapping[str, Any]) -> list[str]:
        found = [] if record.state is PreviewState.FAILED else [f"record not final: {record.state} without a last good"]
        if "route" in there:
            found.append("serves what never was good")
        kept = {f"container/{names.container(record.slug, record.current.generation)}"} if record.current else set()
        others = [title for title in there if title.startswith("container/") and title not in kept]
        return found + [f"left over: {title}" for title in others]

    def _of_serving(self, slug: str, good: Revision, there: Mapping[str, Any]) -> list[str]:
        """Its one container runs, in its network, and has the traffic."""
        wanted = f"container/{names.container(slug, good.generation)}"
        found = [f"record without object: {title}" for title in (wanted, "network", "route") if title not in there]
        others = [title for title in there if title.startswith("container/") and title != wanted]
        found += [f"left over: {title}" for title in others]
        if wanted in there and there[wanted]["State"] != "running":
            found.append(f"record without object: {wanted} does not run")
        route = there.get("route")
        if route is not None and (route.generation, route.commit_sha) != (good.generation, good.commit_sha):
            found.append(
                f"serves something else: the route is generation {route.generation}'s, not {good.generation}'s"
            )
        return found

    async def _served(self, url: str, good: Revision) -> list[str]:
        try:
            answer = await self.guest.get(url)
        except httpx.HTTPError as error:
            return [f"serves something else: {error!r}"]
        got = (answer.status_code, answer.headers.get("X-Preview-Commit"), answer.text)
        if got != (200, good.commit_sha, self.bodies[good.commit_sha]):
            return [f"serves something else: {got}, not {good.commit_sha}"]
        return []


def _processes(mark: str) -> list[str]:
    """Command lines of this machine's processes that have that in them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line:
            found.append(line.strip())
    return found
