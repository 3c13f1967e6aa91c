"""How long things took in the cluster, in seconds of ours: a benchmark takes them off to find its own share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.standin.controllers.base import Key, key_of
from tests.cluster.standin.controllers.conditions import is_true
from tests.cluster.standin.controllers.rollout import is_complete

Object = dict[str, Any]


@dataclass
class Span:
    """From a commit of somebody's wish to the commit that tells its fulfilment; None while it is not there.

    `verdict` is when a Job's own status told it, which is later than its container's end.
    """

    asked: float
    started: float | None = None
    done: float | None = None
    verdict: float | None = None

    @property
    def seconds(self) -> float:
        """How long the cluster took.

        Raises:
            ValueError: it is not done.
        """
        if self.done is None:
            raise ValueError("not done yet")
        return self.done - self.asked


@dataclass
class Timings:
    """Follows the store.

    Attributes:
        builds: by the Job's namespace and name; its last container's start and end.
        rollouts: by the Deployment's namespace, name and generation.
    """

    builds: dict[Key, Span] = field(default_factory=dict)
    rollouts: dict[tuple[str, str, int], Span] = field(default_factory=dict)

    def notice(self, event: str, obj: Object) -> None:
        """Take down what a commit tells."""
        if event == "ADDED" and obj["kind"] == "Job":
            self.builds[key_of(obj)] = Span(time.monotonic())
        elif event == "MODIFIED" and obj["kind"] == "Job":
            self._job(obj)
        elif obj["kind"] == "Pod":
            self._pod(obj)
        elif obj["kind"] == "Deployment" and event != "DELETED":
            self._deployment(obj)

    def _job(self, job: Object) -> None:
        span = self.builds.get(key_of(job))
        if span is not None and span.verdict is None and is_true(job, "Complete"):
            span.verdict = time.monotonic()

    def _pod(self, pod: Object) -> None:
        namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
        span = self.builds.get((namespace, labels.get("job-name", "")))
        states = [one["state"] for one in pod.get("status", {}).get("containerStatuses", [])]
        if span is None or not states:
            return
        if any("running" in state for state in states) and span.started is None:
            span.started = time.monotonic()
        if all("terminated" in state for state in states) and span.done is None:
            span.done = time.monotonic()

    def _deployment(self, deployment: Object) -> None:
        span = self.rollouts.setdefault(
            (*key_of(deployment), deployment["metadata"]["generation"]), Span(time.monotonic())
        )
        if span.done is None and is_complete(deployment, deployment.get("status", {})):
            span.done = time.monotonic()
