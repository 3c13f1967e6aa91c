"""What this installation made in the cluster, and no record needs any more.

Only what carries our label prefix with our platform id is looked at: the platform's present provider has none, and
another installation another id. Everything is found by the watches; each removal names the very object.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from provider import names, render
from provider.platforms import notes
from provider.platforms.kubernetes import kaniko, resources
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.build_state import is_finished
from provider.platforms.kubernetes.fence import FENCED, GENERATION, PLATFORM, Anchors
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.secrets import STAGED
from provider.platforms.kubernetes.watches import Watches, annotation, label, slug_of
from provider.platforms.needs import Adoptable, Known, Needed, Orphan


class Orphans:
    """Finds them."""

    def __init__(self, *, api: Api, watches: Watches, anchors: Anchors, platform_id: str) -> None:
        self._api = api
        self._watches = watches
        self._anchors = anchors
        self._platform_id = platform_id
        self._looked_after: set[str] = set()

    async def find(self, known: Known) -> tuple[list[Orphan], Needed]:
        """All of them, and what they were compared with: that is asked after the cluster was looked at."""
        anchors = self._anchors.present()
        objects = [(resource, found) for resource in FENCED for found in self._watches.of(resource).all()]
        secrets, jobs = self._watches.secrets.all(), self._watches.jobs.all()
        needed = await known()
        orphans = [
            *(self._anchor(*one) for one in anchors if needed.is_gone(one[0])),
            *self._objects(objects, needed),
            *self._secrets(secrets, needed),
            *self._jobs(jobs, needed),
            *self._clone_secrets(jobs, needed),
        ]
        return orphans, needed

    def _anchor(self, slug: str, uid: str, generation: int) -> Orphan:
        """With it goes whatever it owns."""
        drop = partial(self._anchors.drop, slug, uid=uid, up_to=generation)
        name, adoptable = f"configmap/{names.anchor(slug)}", self._adoptable(slug, uid, generation)
        return Orphan(name, f"{uid}/{generation}", slug, drop, adoptable)

    def _adoptable(self, slug: str, uid: str, generation: int) -> Adoptable | None:
        """What the preview serves below that anchor; a failed first deploy has no Ingress, and is not kept."""
        deployment = self._watches.deployments.get(slug)
        if deployment is None or not self._watches.ingresses.of(slug):
            return None
        owned = uid in {one["uid"] for one in deployment["metadata"].get("ownerReferences", [])}
        revision = notes.read(annotation(deployment, notes.NOTE)) if owned else None
        return Adoptable(revision, generation) if revision is not None else None

    def _objects(self, found: list[tuple[Resource, Object]], needed: Needed) -> Iterator[Orphan]:
        """What lost its anchor; what a preview with a record has too much goes when it is put right."""
        mine = render.label_value(self._platform_id)
        for resource, one in found:
            slug = slug_of(one)
            anchor = one["metadata"]["name"] == names.anchor(slug)
            if label(one, PLATFORM) == mine and slug and not anchor and needed.is_gone(slug):
                yield self._object(resource, one, slug)

    def _secrets(self, found: list[Object], needed: Needed) -> Iterator[Orphan]:
        for one in found:
            slug, staged, name = slug_of(one), annotation(one, STAGED), one["metadata"]["name"]
            if annotation(one, PLATFORM) != self._platform_id:
                continue
            if staged and staged not in needed.staged:
                yield self._object(resources.SECRETS, one, "")
            elif slug and needed.is_past(slug, int(annotation(one, GENERATION) or 0)):
                kept = needed.previews.get(slug)
                if kept is None or name not in kept.bundles:  # an older generation's may be in use again
                    yield self._object(resources.SECRETS, one, slug)

    def _jobs(self, found: list[Object], needed: Needed) -> Iterator[Orphan]:
        """Those that run for nobody; the cluster removes those that ended."""
        for job in found:
            slug, inputs = label(job, kaniko.SLUG), annotation(job, kaniko.INPUTS)
            mine = annotation(job, PLATFORM) == self._platform_id
            if mine and (slug, inputs) not in needed.builds and not is_finished(job):
                yield self._object(resources.JOBS, job, slug)

    def _clone_secrets(self, jobs: list[Object], needed: Needed) -> Iterator[Orphan]:
        """Credentials that no Job ever owned, since a provider was killed between the two: each is asked for once.

        They can't be listed: that right would show every other Secret of the namespace, too.
        """
        present = {job["metadata"]["name"] for job in jobs}
        self._looked_after &= needed.ended_builds
        for job in needed.ended_builds - present - self._looked_after:
            yield Orphan(f"secret/{names.clone_secret(job)}", job, "", partial(self._remove_clone_secret, job))

    async def _remove_clone_secret(self, job: str) -> None:
        if self._watches.jobs.get(job) is None:
            await self._api.delete(resources.CLONE_SECRETS, names.clone_secret(job))
            self._looked_after.add(job)

    def _object(self, resource: Resource, found: Object, slug: str) -> Orphan:
        metadata = found["metadata"]
        name, uid = metadata["name"], metadata["uid"]
        # A deploy that begins just now changes what it takes over; a Job's status changes by itself.
        version = metadata["resourceVersion"] if resource is not resources.JOBS else None
        remove = partial(self._api.delete, resource, name, uid=uid, version=version)
        return Orphan(f"{resource.kind.lower()}/{name}", uid, slug, remove)
