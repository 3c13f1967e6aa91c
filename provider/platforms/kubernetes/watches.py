"""What the cluster holds, kept current by one watch per kind, shared by everything that waits.

However many deploys are under way, the watches stay the same. Who waits for something says so by a key (a
preview's slug, a build's Job), judges what the caches hold, and is woken when anything with that key changes.
A watch survives everything: a cut connection goes on from its last version, an expired version lists again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.cache import Cache, Changes, KeyOf, Restarted
from provider.platforms.kubernetes.refusals import unreachable
from provider.platforms.kubernetes.resources import Resource

SYNC_SECONDS = 30.0
POD = ("spec.nodeName", "status")
EVENT = ("involvedObject", "reason", "message", "type", "count", "lastTimestamp", "eventTime")


class Watches:
    """The cache of every kind that is looked at; `restarted` is told the kind of each watch that begins anew."""

    def __init__(self, api: Api, restarted: Restarted | None = None) -> None:
        self.changes = Changes()

        def cache(resource: Resource, key_of: KeyOf, *keep: str, metadata_only: bool = False) -> Cache:
            return Cache(
                api, resource, key_of, self.changes, keep=keep, metadata_only=metadata_only, restarted=restarted
            )

        self.anchors = cache(resources.CONFIG_MAPS, name_of, "data")
        self.secrets = cache(resources.SECRETS, slug_of, metadata_only=True)
        self.services = cache(resources.SERVICES, name_of, "spec")
        self.deployments = cache(resources.DEPLOYMENTS, name_of, "spec", "status")
        self.ingresses = cache(resources.INGRESSES, name_of, "spec")
        self.network_policies = cache(resources.NETWORK_POLICIES, name_of)
        self.replica_sets = cache(resources.REPLICA_SETS, slug_of, "status")
        self.pods = cache(resources.PODS, slug_of, *POD)
        self.endpoints = cache(resources.ENDPOINT_SLICES, _service_of, "endpoints")
        self.events = cache(resources.EVENTS, _involved_uid, *EVENT)
        self.jobs = cache(resources.JOBS, _build_of_job, "spec", "status")
        self.build_pods = cache(resources.BUILD_PODS, _build_of_pod, *POD)
        self.build_events = cache(resources.BUILD_EVENTS, _involved_uid, *EVENT)
        self._caches = tuple(value for value in vars(self).values() if isinstance(value, Cache))
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, resource: Resource) -> Cache:
        """The cache of that resource."""
        return next(cache for cache in self._caches if cache.resource is resource)

    async def start(self) -> None:
        """Begin to watch; returns when everything was listed once.

        Raises:
            Temporary: `platform_unreachable`, when that takes too long.
        """
        self._tasks = [asyncio.create_task(one.run(), name=f"watch {one.resource.plural}") for one in self._caches]
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                for cache in self._caches:
                    await cache.synced.wait()
        except TimeoutError:
            missing = [cache.resource.plural for cache in self._caches if not cache.synced.is_set()]
            raise unreachable(f"not listed within {SYNC_SECONDS:g} s: {', '.join(missing)}") from None

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def events_of(self, objects: Iterable[Object]) -> list[Object]:
        """The events about these objects, oldest first."""
        uids = [found["metadata"]["uid"] for found in objects]
        found = [event for uid in uids for event in (*self.events.of(uid), *self.build_events.of(uid))]
        return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))


def label(found: Object, name: str) -> str:
    """A label's value, "" where there is none."""
    return str((found["metadata"].get("labels") or {}).get(name, ""))


def annotation(found: Object, name: str) -> str:
    """An annotation's value, "" where there is none."""
    return str((found["metadata"].get("annotations") or {}).get(name, ""))


def job_key(name: str) -> str:
    """The key of a build Job and its pods; a slug has no slash."""
    return f"build/{name}"


def slug_of(found: Object) -> str:
    """The preview that an object belongs to (contract.md, "Names": `app=<slug>`)."""
    return label(found, "app")


def name_of(found: Object) -> str:
    """The slug in an object's name; what may follow it begins with a dot (`names.anchor`)."""
    return str(found["metadata"]["name"]).partition(".")[0]


def _service_of(found: Object) -> str:
    return label(found, "kubernetes.io/service-name")


def _involved_uid(found: Object) -> str:
    return str(found.get("involvedObject", {}).get("uid", ""))


def _build_of_job(found: Object) -> str:
    return job_key(found["metadata"]["name"])


def _build_of_pod(found: Object) -> str:
    return job_key(label(found, "batch.kubernetes.io/job-name") or label(found, "job-name"))
