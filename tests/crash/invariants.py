"""What must hold of a preview when nothing is under way any more, whoever died meanwhile.

It is judged from outside: by what stands in the cluster's own store, what the ingress serves, and what the records say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from provider import render
from provider.models import DeployRecord, PreviewRecord, PreviewState, Revision
from provider.store import Store
from tests.cluster.places import DOMAIN, Place
from tests.e2e.helpers import Visitor

Json = dict[str, Any]

GENERATION = render.PREFIX + "generation"
CHECKSUM = render.PREFIX + "checksum"
STAGED = render.PREFIX + "staged"
PLATFORM = render.PREFIX + "platform-id"
APPLIED = ("NetworkPolicy", "Service", "Deployment", "Ingress")
FINAL = {PreviewState.READY, PreviewState.DEGRADED, PreviewState.FAILED}


class Judge:
    """Finds what is wrong with one preview.

    Args:
        bodies: what an app serves, by commit.
    """

    def __init__(self, *, place: Place, store: Store, guest: Visitor, bodies: Mapping[str, str]) -> None:
        assert place.standin is not None
        self._place = place
        self._cluster = place.standin.store
        self._store = store
        self._guest = guest
        self._bodies = bodies

    async def violations(self, slug: str) -> list[str]:
        """Each as `invariant: what was seen`."""
        record = await self._store.get_preview(slug)
        deploys = [one for one in await self._store.unfinished_deploys() if one.slug in {slug, None}]
        found = [*self._unfinished(deploys), *self._left_over(slug), *self._secrets(slug, record)]
        if record is None or record.removed_at is not None:
            objects = self._objects(slug)
            return found + [f"object without record: {title}" for title in objects]
        if record.state not in FINAL:
            found.append(f"record not final: {record.state}")
        good = record.last_good
        if good is None:
            return found + list(self._of_failed_first(slug, record))
        found += self._applied(slug, record, good)
        return found + await self._served(slug, good)

    def staged(self, platform_id: str) -> list[str]:
        """Staged secrets: what a request left that died before it had a record is for the sweep."""
        return [
            f"left over: staged secret {secret['metadata']['name']}"
            for secret in self._cluster.list("Secret", self._place.previews)
            if STAGED in (notes := secret["metadata"].get("annotations", {})) and notes.get(PLATFORM) == platform_id
        ]

    # ------------------------------------------------------------------ parts

    def _unfinished(self, deploys: list[DeployRecord]) -> Iterator[str]:
        for one in deploys:
            yield f"record not final: deploy {one.deploy_id} in {one.phase}"

    def _left_over(self, slug: str) -> Iterator[str]:
        jobs = {
            job["metadata"]["uid"]: job
            for job in self._cluster.list("Job", self._place.builds)
            if job["metadata"]["name"].startswith(f"preview-build-{slug}-")
        }
        for job in jobs.values():
            if not _finished(job):
                yield f"left over: running job {job['metadata']['name']}"
        for secret in self._cluster.list("Secret", self._place.builds):
            metadata = secret["metadata"]
            owners = {owner["uid"] for owner in metadata.get("ownerReferences", [])}
            if metadata["name"].startswith(f"preview-build-{slug}-") and not owners & jobs.keys():
                yield f"left over: clone secret {metadata['name']}"

    def _secrets(self, slug: str, record: PreviewRecord | None) -> Iterator[str]:
        revisions = (record.current, record.last_good) if record is not None and record.removed_at is None else ()
        needed = {one.bundle.name for one in revisions if one is not None and one.bundle is not None}
        there = set()
        for secret in self._cluster.list("Secret", self._place.previews):
            metadata = secret["metadata"]
            if metadata["name"].startswith(f"preview-secrets-{slug}-"):
                there.add(metadata["name"])
        for name in there - needed:
            yield f"left over: bundle {name}"
        for name in needed - there:
            yield f"record without object: bundle {name}"

    def _of_failed_first(self, slug: str, record: PreviewRecord) -> Iterator[str]:
        if record.state is not PreviewState.FAILED:
            yield f"record not final: {record.state} without a last good"
        if f"Ingress/{slug}" in self._objects(slug):
            yield "serves what never was good"

    def _applied(self, slug: str, record: PreviewRecord, good: Revision) -> Iterator[str]:
        """The objects are the last good's, whole, of one generation that is not older."""
        objects = self._objects(slug)
        wanted = {"ConfigMap": f"{slug}.anchor", "NetworkPolicy": f"{slug}.network"}
        for kind in ("ConfigMap", *APPLIED):
            if f"{kind}/{wanted.get(kind, slug)}" not in objects:
                yield f"record without object: {kind}"
        generations = set()
        anchor = objects.get(f"ConfigMap/{slug}.anchor")
        for title, found in objects.items():
            if title.partition("/")[0] not in APPLIED:
                continue
            notes = found["metadata"].get("annotations", {})
            generations.add(int(notes.get(GENERATION, 0)))
            if notes.get(CHECKSUM) != render.checksum(good.manifests):
                yield f"serves something else: {title} is not the last good's"
            owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences", [])}
            if anchor is not None and anchor["metadata"]["uid"] not in owners:
                yield f"without its anchor: {title}"
        if len(generations) > 1 or not all(good.generation <= one <= record.generation for one in generations):
            yield f"stale generation: {sorted(generations)} of {good.generation} to {record.generation}"

    async def _served(self, slug: str, good: Revision) -> list[str]:
        expected = self._bodies[good.commit_sha]
        try:
            answer = await self._guest.get(f"https://{slug}.{DOMAIN}")
        except httpx.HTTPError as error:
            return [f"serves something else: {error!r}"]
        if (answer.status_code, answer.text) != (200, expected):
            return [f"serves something else: {answer.status_code} {answer.text!r}, not {expected!r}"]
        return []

    def _objects(self, slug: str) -> dict[str, Json]:
        return {
            f"{kind}/{found['metadata']['name']}": found
            for kind in ("ConfigMap", *APPLIED)
            for found in self._cluster.list(kind, self._place.previews)
            if found["metadata"]["name"].partition(".")[0] == slug and "deletionTimestamp" not in found["metadata"]
        }


def _finished(job: Json) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions)
