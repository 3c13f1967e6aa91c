"""Waiting for a revision on the cluster: woken by the shared watches, ended by what `rollout_state` judges."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from provider.diagnose import rollouts
from provider.errors import PreviewError
from provider.models import LOG_TAIL_LINES, Revision, now
from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.objects import is_applied, mark_of
from provider.platforms.kubernetes.pod_log import last_lines
from provider.platforms.kubernetes.rollout_state import (
    APP,
    Broken,
    Ready,
    Seen,
    State,
    Waiting,
    judge,
    newest_replica_set,
    overdue,
    pods_of,
)
from provider.platforms.kubernetes.watches import Watches
from provider.settings import Settings

LOG_SECONDS = 3.0
"""How long the log of what failed is waited for: a phase has not much more time left when its own is over."""
STEADY_SECONDS = 10.0
CLOCKS_APART = 60.0
"""Seconds by which machines' clocks may differ."""


class Rollouts:
    """Watches revisions become ready."""

    def __init__(self, *, api: Api, watches: Watches, settings: Settings) -> None:
        self._api = api
        self._watches = watches
        self._settings = settings

    async def wait(self, slug: str, revision: Revision, generation: int) -> None:
        """Return when the revision, applied at that generation, serves alone.

        Raises:
            Permanent: `image_unpullable`, `quota_exceeded`, `policy_denied`, `deployment_not_ready`.
        """
        last, mark = Waiting("nothing yet"), mark_of(revision)
        steady, ages = _Steadiness(), _Ages(self._watches)

        def ended() -> State | None:
            nonlocal last
            state = judge(self._seen(slug, mark, generation), ages.of, self._settings.unschedulable_grace)
            if isinstance(state, Ready) and not steady.enough(state):
                state = Waiting(f"the app was restarted {state.restarts} times; it has to stay up for a while")
            if isinstance(state, Waiting):
                last = state
                return None
            return state

        try:
            async with asyncio.timeout(self._settings.rollout_timeout):
                state = await self._watches.changes.until(slug, ended)
        except TimeoutError:
            state = overdue(self._seen(slug, mark, generation), last.why)  # our own deadline came before the cluster's
        if not isinstance(state, Ready):
            assert isinstance(state, Broken), "only these end the wait"
            raise await self._error(state, slug)

    async def app_log(self, slug: str, lines: int) -> tuple[str, ...]:
        """The last lines of the newest pod's app; of its container before, where the present one says nothing."""
        pods = self._newest_pods(slug)
        if not pods:
            return ()
        return await self._tail(pods[-1]["metadata"]["name"], lines)

    async def _tail(self, pod: str, lines: int, *, before: bool = True) -> tuple[str, ...]:
        """A log that does not come must not hide what is known: then nothing of it is told."""
        try:
            async with asyncio.timeout(LOG_SECONDS):
                told = await last_lines(self._api, resources.POD_LOGS, pod, lines)
                if not told and before:
                    told = await last_lines(self._api, resources.POD_LOGS, pod, lines, previous=True)
        except TimeoutError:
            return ()
        return told

    def _seen(self, slug: str, mark: str, generation: int) -> Seen:
        watches = self._watches
        deployment = watches.deployments.get(slug)
        replica_sets, pods = watches.replica_sets.of(slug), watches.pods.of(slug)
        about = [*([deployment] if deployment else []), *replica_sets, *pods]
        return Seen(
            deployment=deployment,
            applied=is_applied(deployment, mark, generation),
            replica_sets=replica_sets,
            pods=pods,
            slices=watches.endpoints.of(slug),
            events=watches.events_of(about),
        )

    def _newest_pods(self, slug: str) -> list[Object]:
        deployment = self._watches.deployments.get(slug)
        if deployment is None:
            return []
        newest = newest_replica_set(deployment, self._watches.replica_sets.of(slug))
        pods = pods_of(newest, self._watches.pods.of(slug)) if newest is not None else []
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def _error(self, broken: Broken, slug: str) -> PreviewError:
        tail: tuple[str, ...] = ()
        if broken.pod is not None:
            tail = await self._tail(broken.pod, LOG_TAIL_LINES, before=bool(broken.restarts))
        return error_of(broken, tail, self._watches.deployments.get(slug))


class _Ages:
    """For how long what may pass by itself is known, by our own clock; see `rollout_state.Ages`."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._since: dict[str, float] = {}

    def of(self, found: Object) -> float:
        """Seconds since the pod is there; since one that ends, or a ReplicaSet whose pods are refused, was seen so."""
        if found["kind"] == "Pod" and "deletionTimestamp" not in found["metadata"]:
            return self._watches.pods.age(found)
        present = time.monotonic()
        return present - self._since.setdefault(str(found["metadata"]["uid"]), present)


class _Steadiness:
    """An app that crashed before it was ready is ready only once it stays up: it may answer and crash in turn."""

    def __init__(self) -> None:
        self._restarts = 0
        self._since = time.monotonic()

    def enough(self, ready: Ready) -> bool:
        """Whether it was restarted never, or not for a while."""
        if ready.restarts != self._restarts:
            self._restarts, self._since = ready.restarts, time.monotonic()
        return not ready.restarts or time.monotonic() - self._since >= STEADY_SECONDS or _is_long_ago(ready.since)


def _is_long_ago(moment: str) -> bool:
    """Whether it is, by whichever of two machines' clocks."""
    try:
        return (now() - datetime.fromisoformat(moment)).total_seconds() > STEADY_SECONDS + CLOCKS_APART
    except (ValueError, TypeError):
        return False  # not told, or without a zone


def error_of(broken: Broken, tail: tuple[str, ...], deployment: Object | None = None) -> PreviewError:
    """What a broken rollout means to callers.

    Args:
        broken: what the cluster shows.
        tail: the app's last lines.
        deployment: what was asked for.
    """
    told = (f"{broken.reason}: {broken.message}", f"pod {broken.pod}" if broken.pod else "")
    container = _container(deployment)
    port: Object = next(iter(container.get("ports") or []), {})
    resources = container.get("resources", {})
    probe = container.get("readinessProbe", {})
    app = rollouts.App(
        port=int(port.get("containerPort", 0)),
        path=str(probe.get("httpGet", {}).get("path", "/")),
        probe=broken.message,
        timeout=float(probe.get("timeoutSeconds", 1)),
        exits=broken.restarts + 1,  # it has ended once more than it was restarted
        exit_code=broken.exit_code,
        oom=broken.reason == "OOMKilled",
        memory=str(resources.get("limits", {}).get("memory", "")),
        log=tail,
        told=told,
    )
    if broken.reason in {"OOMKilled", "CrashLoopBackOff"}:
        return rollouts.crashed(app).error(tail)
    if broken.reason == "Unhealthy":
        found = rollouts.killed(app, was_ready=broken.was_ready) if broken.restarts else rollouts.unready(app)
        return found.error(tail)
    requests = ", ".join(f"{name} {value}" for name, value in resources.get("requests", {}).items())
    return rollouts.not_placed(broken.reason, broken.message, requests=requests, told=told[1:]).error(tail)


def _container(deployment: Object | None) -> Object:
    """The app's, as it was asked for."""
    spec = (deployment or {}).get("spec", {}).get("template", {}).get("spec", {})
    return next((dict(one) for one in spec.get("containers") or [] if one["name"] == APP), {})
