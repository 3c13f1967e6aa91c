"""Looking at previews on the cluster: by the shared watches and the pods' logs, with no verb more."""

from __future__ import annotations

import asyncio

from provider.errors import PreviewError
from provider.platforms.kubernetes import kaniko, resources
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.build_state import is_finished
from provider.platforms.kubernetes.pod_log import AGAIN_SECONDS, lines_of
from provider.platforms.kubernetes.refusals import Refused
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.watches import Watches, annotation, job_key
from provider.platforms.looks import ContainerLook, EventLook, Lines, LogQuery, PodLook


class KubernetesInspector:
    """Fulfils `platforms.looks.Inspector`."""

    def __init__(self, *, api: Api, watches: Watches, platform_id: str) -> None:
        self._api = api
        self._watches = watches
        self._platform_id = platform_id

    async def pods(self, slug: str) -> tuple[PodLook, ...]:
        """See `Inspector`."""
        return tuple(map(_look, self._pods(slug)))

    async def events(self, slug: str) -> tuple[EventLook, ...]:
        """See `Inspector`."""
        watches, deployment = self._watches, self._watches.deployments.get(slug)
        parts = [*watches.replica_sets.of(slug), *watches.pods.of(slug), *watches.ingresses.of(slug)]
        return tuple(map(_event, watches.events_of([*([deployment] if deployment else []), *parts])))

    async def app_log(self, slug: str, query: LogQuery) -> Lines:
        """See `Inspector`."""
        pods = [name for pod in self._pods(slug) if query.pod in (None, name := str(pod["metadata"]["name"]))]
        if pods:
            async for lines in self._read(resources.POD_LOGS, pods[-1], query):
                yield lines

    def build_log(self, slug: str, build_inputs: str, job_name: str, *, follow: bool) -> Lines | None:
        """See `Inspector`."""
        job = self._watches.jobs.get(job_name)
        ours = job is not None and annotation(job, kaniko.PLATFORM) == self._platform_id
        if job is None or not ours or annotation(job, kaniko.INPUTS) != build_inputs:
            return None
        return self._build_log(job, LogQuery(follow=follow))

    async def _build_log(self, job: Object, query: LogQuery) -> Lines:
        """Every pod's log: the Job may try twice. A pod that has not begun is waited for while the Job runs."""
        name, read = str(job["metadata"]["name"]), set[str]()
        while True:
            pods = sorted(self._watches.build_pods.of(job_key(name)), key=_created)
            fresh = [pod for one in pods if (pod := str(one["metadata"]["name"])) not in read]
            for pod in fresh:
                begun = False
                async for lines in self._read(resources.BUILD_LOGS, pod, query):
                    begun = True
                    yield lines
                if begun or not query.follow:
                    read.add(pod)
            present = self._watches.jobs.get(name)
            if not query.follow or present is None or is_finished(present) or (read and not fresh):
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self, resource: Resource, pod: str, query: LogQuery) -> Lines:
        """Nothing where the container has not begun, or is gone."""
        try:
            async with self._api.log(
                resource, pod, follow=query.follow, previous=query.previous, tail=query.tail, since=query.since
            ) as stream:
                async for lines in lines_of(stream):
                    yield lines
        except (Refused, PreviewError):
            return

    def _pods(self, slug: str) -> list[Object]:
        return sorted(self._watches.pods.of(slug), key=_created)


def _created(found: Object) -> str:
    return str(found["metadata"].get("creationTimestamp", ""))


def _look(pod: Object) -> PodLook:
    status = pod.get("status", {})
    return PodLook(
        name=str(pod["metadata"]["name"]),
        phase="Terminating" if "deletionTimestamp" in pod["metadata"] else str(status.get("phase", "")),
        created_at=_created(pod),
        node=str(pod["spec"].get("nodeName") or ""),
        message=" ".join(filter(None, (str(status.get("reason", "")), str(status.get("message", ""))))),
        containers=tuple(map(_container, status.get("containerStatuses") or [])),
    )


def _container(found: Object) -> ContainerLook:
    states: Object = found.get("state") or {}
    name = next(iter(states), "waiting")
    state: Object = states.get(name, {})
    last: Object = (found.get("lastState") or {}).get("terminated") or {}
    return ContainerLook(
        name=str(found["name"]),
        image=_image(found),
        state=name,
        ready=bool(found.get("ready")),
        restarts=int(found.get("restartCount", 0)),
        reason=str(state.get("reason", "")),
        message=str(state.get("message", "")),
        exit_code=state.get("exitCode"),
        started_at=str(state.get("startedAt") or ""),
        last_exit_code=last.get("exitCode"),
        last_reason=str(last.get("reason", "")),
    )


def _image(found: Object) -> str:
    """Where it came from, with its digest: containerd names what was pulled by digest by its configuration (seen)."""
    pulled = str(found.get("imageID", ""))
    return pulled if "@" in pulled else str(found.get("image", ""))


def _event(found: Object) -> EventLook:
    about = found.get("involvedObject", {})
    at = found.get("lastTimestamp") or found.get("eventTime") or _created(found)
    return EventLook(
        at=str(at),
        kind=str(about.get("kind", "")),
        name=str(about.get("name", "")),
        reason=str(found.get("reason", "")),
        message=str(found.get("message", "")),
        count=int(found.get("count") or 1),
        warning=found.get("type") == "Warning",
    )
