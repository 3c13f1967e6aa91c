"""Waiting for a revision on the cluster: woken by the shared watches, ended by what `rollout_state` judges."""

from __future__ import annotations

import asyncio
import time

from provider.errors import Code, Permanent, PreviewError, Whose
from provider.models import LOG_TAIL_LINES, Revision
from provider.platforms.kubernetes import resources
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.objects import is_applied, mark_of
from provider.platforms.kubernetes.pod_log import last_lines
from provider.platforms.kubernetes.rollout_state import (
    CONFIG_ERRORS,
    UNPULLABLE,
    Broken,
    Ready,
    Seen,
    State,
    Waiting,
    judge,
    newest_replica_set,
    pods_of,
)
from provider.platforms.kubernetes.watches import Watches
from provider.settings import Settings

STEADY_SECONDS = 10.0


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
        steady = _Steadiness()

        def ended() -> State | None:
            nonlocal last
            state = judge(self._seen(slug, mark, generation), self._age, self._settings.unschedulable_grace)
            if isinstance(state, Ready) and not steady.enough(state.restarts):
                state = Waiting(f"the app was restarted {state.restarts} times; it has to stay up for a while")
            if isinstance(state, Waiting):
                last = state
                return None
            return state

        try:
            async with asyncio.timeout(self._settings.rollout_timeout):
                state = await self._watches.changes.until(slug, ended)
        except TimeoutError:
            state = self._never_ready(slug, last)
        if not isinstance(state, Ready):
            assert isinstance(state, Broken), "only these end the wait"
            raise await self._error(state)

    async def app_log(self, slug: str, lines: int) -> tuple[str, ...]:
        """The last lines of the newest pod's app; of its container before, where the present one says nothing."""
        pods = self._newest_pods(slug)
        if not pods:
            return ()
        name = pods[-1]["metadata"]["name"]
        told = await last_lines(self._api, resources.POD_LOGS, name, lines)
        return told or await last_lines(self._api, resources.POD_LOGS, name, lines, previous=True)

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

    def _age(self, found: Object) -> float:
        return (self._watches.replica_sets if found["kind"] == "ReplicaSet" else self._watches.pods).age(found)

    def _newest_pods(self, slug: str) -> list[Object]:
        deployment = self._watches.deployments.get(slug)
        if deployment is None:
            return []
        newest = newest_replica_set(deployment, self._watches.replica_sets.of(slug))
        pods = pods_of(newest, self._watches.pods.of(slug)) if newest is not None else []
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def _never_ready(self, slug: str, last: Waiting) -> Broken:
        """Our own deadline came before the cluster's: its probes' last words, else what was waited for."""
        pods = self._newest_pods(slug)
        told = [event for event in self._watches.events_of(pods) if event.get("reason") == "Unhealthy"]
        name = str(pods[-1]["metadata"]["name"]) if pods else None
        return Broken("Unhealthy", str(told[-1].get("message")) if told else last.why, name)

    async def _error(self, broken: Broken) -> PreviewError:
        tail: tuple[str, ...] = ()
        if broken.pod is not None:
            tail = await last_lines(self._api, resources.POD_LOGS, broken.pod, LOG_TAIL_LINES)
            if not tail and broken.restarts:
                tail = await last_lines(self._api, resources.POD_LOGS, broken.pod, LOG_TAIL_LINES, previous=True)
        return error_of(broken, tail)


class _Steadiness:
    """An app that crashed before it was ready is ready only once it stays up: it may answer and crash in turn."""

    def __init__(self) -> None:
        self._restarts = 0
        self._since = time.monotonic()

    def enough(self, restarts: int) -> bool:
        """Whether it was restarted never, or not for a while."""
        if restarts != self._restarts:
            self._restarts, self._since = restarts, time.monotonic()
        return not restarts or time.monotonic() - self._since >= STEADY_SECONDS


def error_of(broken: Broken, tail: tuple[str, ...]) -> PreviewError:
    """What a broken rollout means to callers."""
    evidence = tuple(filter(None, (f"{broken.reason}: {broken.message}", broken.pod and f"pod {broken.pod}")))
    if broken.reason in UNPULLABLE:
        return Permanent(
            Code.IMAGE_UNPULLABLE,
            f"The cluster could not pull the built image: {broken.message}",
            reason=broken.reason,
            hint="Check REGISTRY_PULL_ADDRESS: nodes must reach the registry by that name, and trust it.",
            evidence=evidence,
        )
    if broken.reason == "FailedCreate":
        return _refused(broken, evidence)
    reason, message, hint, whose = _cause(broken)
    return Permanent(
        Code.DEPLOYMENT_NOT_READY,
        message,
        reason=reason,
        hint=hint,
        whose=whose,
        evidence=evidence,
        log_tail=tail,
    )


def _refused(broken: Broken, evidence: tuple[str, ...]) -> PreviewError:
    if "exceeded quota" in broken.message:
        return Permanent(
            Code.QUOTA_EXCEEDED,
            f"The namespace's quota leaves no room for the pod: {broken.message}",
            reason="QuotaExceeded",
            hint="Tear down a preview that is not needed, ask for less in spec.resources, or raise the quota.",
            evidence=evidence,
        )
    return Permanent(
        Code.POLICY_DENIED,
        f"A policy of the cluster refused the pod: {broken.message}",
        reason="PodSecurity" if "violates PodSecurity" in broken.message else "AdmissionDenied",
        hint="The message names what is not allowed; POD_SECURITY and the namespace's labels have to agree.",
        evidence=evidence,
        whose=Whose.PLATFORM,
    )


def _cause(broken: Broken) -> tuple[str, str, str, Whose]:
    """(reason, message, hint, whose) of a rollout that is `deployment_not_ready`."""
    what, why = broken.reason, broken.message
    exited = f"The app exited {max(broken.restarts, 1)} times with code {broken.exit_code} before it was ready."
    if what == "OOMKilled":
        return "OutOfMemory", exited, "Raise spec.resources.limits.memory or use less memory.", Whose.USER
    if what == "CrashLoopBackOff":
        return "CrashLoop", exited, "Read the log's tail: it ends with what the app said before it exited.", Whose.USER
    if what in CONFIG_ERRORS:
        hint = "The message names what the container lacks; deploy again with the secrets."
        return "ConfigError", f"The container could not be made: {why}", hint, Whose.USER
    if what == "Unschedulable":
        hint = "Ask for less in spec.resources.requests, or add a node."
        return "Unschedulable", f"No node takes the pod: {why}", hint, Whose.PLATFORM
    if what == "Unhealthy":
        hint = "Make spec.runtime.healthcheck.path answer with a status below 400 on spec.runtime.port."
        return "Unhealthy", f"The app did not become ready in time: {why}", hint, Whose.USER
    hint = "The evidence holds the cluster's words."
    return what or "NotReady", f"The pod did not become ready: {why or what}", hint, Whose.USER
