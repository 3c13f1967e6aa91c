"""Builds in the cluster: one Kaniko Job each, made, joined, followed and stopped.

A Job outlives the provider and is found by its name. It is joined while it runs for the same inputs, when it ended
well for them and the image is still there, and when it ended for the very deploy that asks again; anything else of
that name is replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog

from provider import names
from provider.diagnose.builds import DIAGNOSED_LINES
from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.models import now
from provider.platforms.base import BuildPlan, LogSink
from provider.platforms.kubernetes import build_causes, kaniko, resources
from provider.platforms.kubernetes.api import Api, Deletion, Object
from provider.platforms.kubernetes.beside import Beside
from provider.platforms.kubernetes.build_state import (
    DEADLINE,
    NOT_STARTED,
    Done,
    Failed,
    Running,
    State,
    Waiting,
    is_finished,
    judge,
)
from provider.platforms.kubernetes.fence import taken_by_another
from provider.platforms.kubernetes.pod_log import Follower, last_lines
from provider.platforms.kubernetes.refusals import Refused, not_taken, refused
from provider.platforms.kubernetes.watches import Watches, annotation, job_key, label
from provider.settings import Settings

T = TypeVar("T")
HasImage = Callable[[str, str], Awaitable[bool]]
log = structlog.get_logger(__name__)

OWNER_PAUSES = (0.2, 1.0, 5.0)
"""Seconds between tries to give a Secret its owner."""
LOG_PATIENCE = 2.0
"""Seconds in which the log of a container that ended has to have come."""
TRIES = 5


class Builds:
    """Starts, joins and stops build Jobs.

    Args:
        has_image: whether the registry has that digest of a preview.
    """

    def __init__(self, *, api: Api, watches: Watches, settings: Settings, has_image: HasImage) -> None:
        self._has_image = has_image
        self._api = api
        self._watches = watches
        self._settings = settings
        self._beside = Beside()

    async def close(self) -> None:
        """Finish what belongs to Jobs that were made; they run on."""
        await self._beside.close()

    async def run(self, plan: BuildPlan, sink: LogSink) -> str:
        """Join the build of these inputs or start one; returns the digest that it pushed."""
        job = await self._present(plan)
        if job is None:
            job = await self._create(plan)
        else:
            self._own(plan, job)  # who made it may have been killed before
        state, tail, errors = await self._follow(job, sink)
        if isinstance(state, Done):
            return state.digest
        assert isinstance(state, Failed), "a build is followed to its end"
        limits = (self._settings.build_memory, self._settings.build_disk)
        error = build_causes.failure(state, tail, errors, plan, await plan.written(), limits)
        if isinstance(error, Temporary) or not is_finished(self._watches.jobs.get(plan.job_name) or job):
            await self._give_up(job)
        raise error

    async def stop(self, slug: str, build_inputs: str) -> None:
        """Stop the running builds of these inputs, and with them their pods and credentials.

        One that ended well just now stays: its image is there, and whoever wants the same takes it.
        """
        for job in self._of(slug):
            if annotation(job, kaniko.INPUTS) == build_inputs:
                await self._stop(job)

    async def remove_all(self, slug: str, up_to: int | None) -> list[str]:
        """Stop and remove the preview's builds of generations up to `up_to` (None: all); the Jobs' names."""
        leaving = [
            job for job in self._of(slug) if up_to is None or int(annotation(job, kaniko.GENERATION) or 0) <= up_to
        ]
        return [job["metadata"]["name"] for job in leaving if await self._delete(job)]

    async def _stop(self, job: Object) -> None:
        """Delete a Job that has not ended at the very version that was looked at: the watch may be behind."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        for _ in range(TRIES):
            if is_finished(job) or isinstance(self._state(name, uid, _Verdict()), Done):
                return
            version = job["metadata"]["resourceVersion"]
            if await self._api.delete(resources.JOBS, name, uid=uid, version=version) is not Deletion.CHANGED:
                return
            live = await self._api.get(resources.JOBS, name)
            if live is None or live["metadata"]["uid"] != uid:
                return
            job = live
        await self._delete(job)  # it changes all the time, so it has not ended

    def _of(self, slug: str) -> list[Object]:
        return [
            job
            for job in self._watches.jobs.all()
            if label(job, kaniko.SLUG) == slug and annotation(job, kaniko.PLATFORM) == self._settings.platform_id
        ]

    # ------------------------------------------------------------------ the Job

    async def _present(self, plan: BuildPlan) -> Object | None:
        """The Job to join; whatever else has its name is removed."""
        job = self._watches.jobs.get(plan.job_name)
        if job is None:
            return None
        other = annotation(job, kaniko.PLATFORM)
        if other not in {"", self._settings.platform_id}:  # the platform's present provider sets none
            raise taken_by_another(other, f"builds as {plan.job_name} in this namespace", "BUILD_NAMESPACE")
        same = annotation(job, kaniko.INPUTS) == plan.build_inputs and "deletionTimestamp" not in job["metadata"]
        own = annotation(job, kaniko.DEPLOY_ID) == plan.deploy_id
        if same and (not is_finished(job) or own or await self._is_good(plan, job)):
            return job
        await self._delete(job)
        await self._gone(job)
        return None

    async def _is_good(self, plan: BuildPlan, job: Object) -> bool:
        """Whether a finished Job's image can be had: its own deploy may have been overtaken before it took it."""
        state = self._state(plan.job_name, job["metadata"]["uid"], _Verdict())
        return isinstance(state, Done) and await self._has_image(plan.slug, state.digest)

    async def _create(self, plan: BuildPlan) -> Object:
        """The Secret first, since a pod without it waits; the Job; then the Secret gets the Job as its owner."""
        credential = await plan.credential()
        body = kaniko.job(plan, self._settings, now(), private=credential is not None)
        if credential is None:
            return await self._make_job(plan, body)
        drop = partial(self._api.delete, resources.CLONE_SECRETS, names.clone_secret(plan.job_name))
        secret = kaniko.clone_secret(plan, self._settings, credential.username, credential.token.get_secret_value())
        await self._beside.whole(self._make_secret(secret), lambda _: drop(), "clone secret")
        try:
            return await self._make_job(plan, body)
        except (Permanent, asyncio.CancelledError):
            self._beside.start(drop(), "clone secret")  # after anything else the Job may be there, and need it
            raise

    async def _make_job(self, plan: BuildPlan, body: Object) -> Object:
        for _ in range(TRIES):
            try:
                job = await self._beside.whole(self._api.create(resources.JOBS, body), self._delete, "job")
            except Refused as error:
                if error.reason != "AlreadyExists":
                    raise _not_created(error) from error
                live = await self._api.get(resources.JOBS, plan.job_name)
                if live is None:
                    continue
                self._watches.jobs.put(live)
                if (present := await self._present(plan)) is not None:
                    self._own(plan, present)
                    return present
            else:
                self._watches.jobs.put(job)
                self._own(plan, job)
                return job
        raise _not_created(Refused(409, "AlreadyExists", f"somebody else makes job {plan.job_name}"))

    async def _make_secret(self, body: Object) -> None:
        """Credentials are new for each Job: what an earlier one left is replaced."""
        name = body["metadata"]["name"]
        for _ in range(TRIES):
            try:
                await self._api.create(resources.CLONE_SECRETS, body)
            except Refused as error:
                if error.reason != "AlreadyExists":
                    raise refused(error, f"secret {name}") from error
                await self._api.delete(resources.CLONE_SECRETS, name)
            else:
                return
        raise refused(Refused(409, "AlreadyExists", "it comes again and again"), f"secret {name}")

    def _own(self, plan: BuildPlan, job: Object) -> None:
        """Make the Job the owner of its credentials, if it has any, beside the build: nothing waits for it."""
        if any("valueFrom" in variable for variable in _env(job)):
            self._beside.start(self._set_owner(names.clone_secret(plan.job_name), job), "clone secret's owner")

    async def _set_owner(self, secret: str, job: Object) -> None:
        metadata = job["metadata"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        operation = {"op": "add", "path": "/metadata/ownerReferences", "value": [owner]}
        for pause in (*OWNER_PAUSES, None):
            try:
                await self._api.edit(resources.CLONE_SECRETS, secret, [operation])
            except (Refused, PreviewError) as error:
                if isinstance(error, Refused) and error.code == 404:
                    return  # it needs none, or is over
                if pause is None:
                    log.warning("build.secret_without_owner", secret=secret, error=str(error))
                    return
                await asyncio.sleep(pause)
            else:
                return

    async def _give_up(self, job: Object) -> None:
        """It will not be joined by the next try, and not run on; its own failure is what counts."""
        try:
            await self._delete(job)
        except PreviewError as error:
            log.warning("build.not_deleted", job=job["metadata"]["name"], error=str(error))

    async def _delete(self, job: Object) -> bool:
        metadata = job["metadata"]
        deletion = await self._api.delete(resources.JOBS, metadata["name"], uid=metadata["uid"])
        return deletion is Deletion.DONE

    async def _gone(self, job: Object) -> None:
        metadata = job["metadata"]

        def gone() -> bool | None:
            present = self._watches.jobs.get(metadata["name"])
            return True if present is None or present["metadata"]["uid"] != metadata["uid"] else None

        await self._watches.changes.until(job_key(metadata["name"]), gone)

    # ------------------------------------------------------------------ its way

    async def _follow(self, job: Object, sink: LogSink) -> tuple[State, list[str], list[str]]:
        """Follow a build to its end; returns that, the log's last lines, and the last of them that are errors."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        follower: Follower | None = None
        verdict, waiting = _Verdict(), Waiting()
        try:
            while True:
                following = follower.pod if follower is not None else None

                def news(following: str | None = following) -> State | None:
                    nonlocal waiting
                    state = self._state(name, uid, verdict)
                    waiting = state if isinstance(state, Waiting) else waiting
                    if isinstance(state, Running) and state.pod != following:
                        return state
                    return state if isinstance(state, Done | Failed) else None

                state = await self._watches.changes.until(job_key(name), news)
                if isinstance(state, Failed) and state.reason == DEADLINE and follower is None and waiting.why:
                    return Failed(NOT_STARTED, waiting.why), [], []
                pod = getattr(state, "pod", None)
                if pod is not None and pod != following:
                    if follower is not None:
                        await follower.finish(0)
                    follower = Follower(api=self._api, resource=resources.BUILD_LOGS, pod=pod, sink=sink)
                if isinstance(state, Done | Failed):
                    tail = await self._tail(follower)
                    return state, tail, list(follower.errors) if follower is not None else []
        finally:
            if follower is not None:
                await follower.finish(0)

    def _state(self, name: str, uid: str, verdict: _Verdict) -> State:
        job = self._watches.jobs.get(name)
        if job is not None and job["metadata"]["uid"] != uid:
            job = None
        owned = [pod for pod in self._watches.build_pods.of(job_key(name)) if _owner(pod) == uid]
        events = self._watches.events_of([*([job] if job else []), *owned])
        return judge(job, owned, events, self._age, self._settings.unschedulable_grace, verdict.age(job))

    def _age(self, found: Object) -> float:
        return (self._watches.jobs if found["kind"] == "Job" else self._watches.build_pods).age(found)

    async def _tail(self, follower: Follower | None) -> list[str]:
        if follower is None:
            return []
        await follower.finish(LOG_PATIENCE)
        if follower.tail:
            return list(follower.tail)
        return list(await last_lines(self._api, resources.BUILD_LOGS, follower.pod, DIAGNOSED_LINES))


def _env(job: Object) -> list[Object]:
    return job["spec"]["template"]["spec"]["containers"][0].get("env") or []


class _Verdict:
    """When a Job's verdict was first seen here."""

    def __init__(self) -> None:
        self._since: float | None = None

    def age(self, job: Object | None) -> float:
        """For how many seconds it is known."""
        if job is None or not is_finished(job):
            return 0.0
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since


def _owner(pod: Object) -> str:
    return next((str(owner["uid"]) for owner in pod["metadata"].get("ownerReferences", [])), "")


def _not_created(error: Refused) -> PreviewError:
    cause = not_taken(error, "the build's Job")
    settled = isinstance(cause, Temporary) or cause.code in {Code.QUOTA_EXCEEDED, Code.POLICY_DENIED}
    if not settled:
        cause.code, cause.whose = Code.KANIKO_CREATE_FAILED, Whose.PLATFORM
    return cause
