"""Jobs of one pod at a time: tried again until they succeed, or until something says that it is enough.

Only the conditions Complete and Failed are its verdict: with a backoffLimit, a failed pod is not the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from tests.cluster.standin.clock import moment
from tests.cluster.standin.controllers import job_verdict
from tests.cluster.standin.controllers.base import MANAGER, Controller, Key, is_going, key_of, owner_key
from tests.cluster.standin.controllers.conditions import find, is_true, put
from tests.cluster.standin.controllers.job_verdict import Verdict
from tests.cluster.standin.controllers.pods import from_template, is_active, is_over, is_ready, phase, suffix
from tests.cluster.standin.store import ApiError
from tests.cluster.standin.values import clone

Object = dict[str, Any]
COMPONENT = "job-controller"
PODS_SETTLE = 0.9
"""Seen: the real controller looks at a pod's end that late."""
FIRST_BACKOFF, LONGEST_BACKOFF = 10, 600
REFUSED_RETRY = 1.0


class JobController(Controller):
    """Makes pods, counts their ends, and tells the verdict."""

    watches = frozenset({"Job", "Pod"})
    delay = 0.02

    def keys(self, obj: Object) -> Iterable[Key]:
        """Itself, or a pod's owner."""
        return [key_of(obj)] if obj["kind"] == "Job" else owner_key(obj, "Job")

    def delay_after(self, event: str, obj: Object) -> float:
        """Changes of pods are looked at in batches."""
        return PODS_SETTLE if obj["kind"] == "Pod" else self.delay

    def reconcile(self, key: Key) -> None:
        """One look at a Job and its pods."""
        job = self.tools.cache.get("Job", key)
        if job is None or is_going(job):
            return
        if is_true(job, "Complete") or is_true(job, "Failed"):
            self._expire(key, job)
            return
        pods = self.tools.cache.owned("Pod", job["metadata"]["uid"])
        verdict = job_verdict.verdict(job, pods, self.tools.clock.now())
        if verdict is None:
            self._carry_on(key, job, pods)
        else:
            self._stop_pods(pods)
            self._write(key, job, verdict)
            if not verdict.succeeded:
                self.tools.events.warning(job, verdict.reason, verdict.message, by=COMPONENT)
            else:
                self.tools.events.normal(job, "Completed", "Job completed", by=COMPONENT)

    def _carry_on(self, key: Key, job: Object, pods: list[Object]) -> None:
        """Make the next pod when its time has come."""
        if not any(is_active(pod) for pod in pods) and not any(is_going(pod) for pod in pods):
            wait = self._back_off(job, pods)
            if wait > 0:
                self.revisit(key, wait)
            else:
                self._make(key, job)
        self._write(key, job, None)
        self._watch_deadline(key, job)

    def _back_off(self, job: Object, pods: list[Object]) -> float:
        """Seconds until the next attempt: each failure doubles the wait since the last one."""
        failed = [pod for pod in pods if is_over(pod) and not job_verdict.is_ignored(job, pod)]
        if not failed:
            return 0.0
        last = max(job_verdict.ended_at(pod) for pod in failed)
        wait = min(FIRST_BACKOFF * 2 ** (len(failed) - 1), LONGEST_BACKOFF)
        return (last + timedelta(seconds=wait) - self.tools.clock.now()).total_seconds()

    def _make(self, key: Key, job: Object) -> None:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        labels = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        pod = from_template(job["spec"]["template"], job, f"{name[:57]}-{suffix()}", labels)
        try:
            self.tools.store.create(pod, manager=MANAGER)
        except ApiError as error:
            self.tools.events.warning(job, "FailedCreate", f"Error creating: {error}", by=COMPONENT)
            self.revisit(key, REFUSED_RETRY)
            return
        message = f"Created pod: {pod['metadata']['name']}"
        self.tools.events.normal(job, "SuccessfulCreate", message, by=COMPONENT)

    def _stop_pods(self, pods: list[Object]) -> None:
        """A verdict ends what still runs."""
        for pod in filter(is_active, pods):
            self.tools.store.delete("Pod", *key_of(pod), uid=pod["metadata"]["uid"])

    def _watch_deadline(self, key: Key, job: Object) -> None:
        """Look again when the Job's time is over."""
        seconds = job["spec"].get("activeDeadlineSeconds")
        started = (self.tools.cache.get("Job", key) or job).get("status", {}).get("startTime")
        if seconds is not None and started is not None and not self.waits(key):
            over = moment(started) + timedelta(seconds=seconds)
            self.revisit(key, (over - self.tools.clock.now()).total_seconds() + 0.01)

    def _write(self, key: Key, job: Object, verdict: Verdict | None) -> None:
        pods, now = self.tools.cache.owned("Pod", job["metadata"]["uid"]), self.tools.clock.stamp()
        before = job.get("status", {})
        active = [pod for pod in pods if is_active(pod)]
        failed = [pod for pod in pods if not is_active(pod) and phase(pod) != "Succeeded"]
        counts = {
            "active": len(active),
            "ready": sum(map(is_ready, active)),
            "failed": sum(not job_verdict.is_ignored(job, pod) for pod in failed),
            "succeeded": sum(phase(pod) == "Succeeded" for pod in pods),
            "terminating": sum(is_going(pod) and not is_over(pod) for pod in pods),
        }
        told: Object = {name: count for name, count in counts.items() if count or name in ("ready", "terminating")}
        told |= {"startTime": before.get("startTime", now), "uncountedTerminatedPods": {}}
        told["conditions"] = clone(before.get("conditions", []))
        if verdict is not None:
            self._judge(told, verdict, now)
        told = {name: value for name, value in told.items() if value != []}
        if told != before:
            self.tools.store.update({**job, "status": told}, manager=MANAGER, subresource="status")

    def _judge(self, told: Object, verdict: Verdict, now: str) -> None:
        """The conditions that end a Job; the first of each pair says that it will end so."""
        for kind in ("SuccessCriteriaMet", "Complete") if verdict.succeeded else ("FailureTarget", "Failed"):
            if find(told["conditions"], kind) is None:
                made = put(told["conditions"], kind, True, now, reason=verdict.reason, message=verdict.message)
                made["lastProbeTime"] = now
        if verdict.succeeded:
            told["completionTime"] = now

    def _expire(self, key: Key, job: Object) -> None:
        """A finished Job goes when its time to live is over."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return
        finished = next(one for one in job["status"]["conditions"] if one["type"] in ("Complete", "Failed"))
        over = moment(finished["lastTransitionTime"]) + timedelta(seconds=seconds)
        left = (over - self.tools.clock.now()).total_seconds()
        if left > 0:
            self.revisit(key, left)
        else:
            self.tools.store.delete("Job", *key, uid=job["metadata"]["uid"])
