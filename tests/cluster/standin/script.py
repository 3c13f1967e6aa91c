"""What a test tells the world to do: how apps behave and how builds end.

Scripts are found by name when a pod starts: an app by its pod's `app` label, a build by its Job's name, both as
shell patterns. The last one that fits counts, so that a test can change its mind between two deploys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Pod = dict[str, Any]
COMMIT = "preview.x1agent.io/commit-sha"


@dataclass(frozen=True)
class Asked:
    """A request as the app in a pod sees it.

    `env` is the container's environment with its secrets, `age` for how many seconds of the cluster it has run.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    age: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What an app answers."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def page(asked: Asked) -> Answer:
    """The default app's answer to everything: a page that names the commit of its pod."""
    commit = asked.annotations.get(COMMIT, "unknown")
    return Answer(200, f"<!doctype html><p>commit {commit}</p>\n", {"Content-Type": "text/html; charset=utf-8"})


@dataclass(frozen=True, kw_only=True)
class AppScript:
    """How an app behaves. Times are seconds of the cluster.

    Attributes:
        ready_after: from the container's start until it listens.
        never_ready: True never listens; a number listens, and answers everything with that status.
        crash: the exit code with which it ends by itself, `crash_after` its start, `crashes` times (None: always).
        oom: it ends so because it took too much memory.
        cannot_pull: why its image can't be pulled (True: it is not there).
        config_error: why its container can't be created.
        needs_root: its image runs as root, which `runAsNonRoot` refuses.
        unschedulable: why no node takes its pod.
        hang: it takes connections and never answers.
        unhealthy_after: from then on it answers 500, for liveness probes to see.
        stop_after: from SIGTERM to its end; it serves until then.
        port: where it listens; None is wherever it is asked.
        answers: by path (200 `page` for others), or one function for all.
    """

    ready_after: float = 0.0
    never_ready: bool | int = False
    crash: int | None = None
    crash_after: float = 0.1
    crashes: int | None = None
    oom: bool = False
    cannot_pull: bool | str = False
    config_error: str = ""
    needs_root: bool = False
    unschedulable: str = ""
    hang: bool = False
    unhealthy_after: float | None = None
    stop_after: float = 0.5
    port: int | None = None
    log: Sequence[str] = ("listening",)
    answers: Mapping[str, Answer] | Callable[[Asked], Answer] = page

    def answer(self, asked: Asked, age: float) -> Answer:
        """What it says `age` seconds after its start."""
        if not isinstance(self.never_ready, bool):
            return Answer(self.never_ready, "never ready\n")
        if self.unhealthy_after is not None and age >= self.unhealthy_after:
            return Answer(500, "unhealthy\n")
        if callable(self.answers):
            return self.answers(asked)
        return self.answers.get(asked.path.partition("?")[0]) or page(asked)


@dataclass(frozen=True, kw_only=True)
class BuildScript:
    """How one attempt of a build goes. The git fetch and the push are real, unless it says otherwise.

    Attributes:
        fetch: False takes the context for granted, with a Dockerfile of one line: for benchmarks, where fifty
            gits at once would be all that is measured.
        log: what the steps print, spread evenly over `seconds`.
        seconds: from fetched context to pushed image.
        exit_code: the one of a RUN step that fails.
        run_killed: a RUN step is killed (too much memory in it): exit code 255 without `OOMKilled`.
        oom: the kernel kills the builder itself.
        no_space: the disk is full at the snapshot.
        failure: any other end of the build, in Kaniko's words.
        push_failure: the registry refuses the push in these words, after the digest file is written.
        push: False leaves out the push altogether, as a builder would that lies.
        hang: it never ends by itself.
        evicted: the kubelet evicts the pod with these words.
        cannot_start: why the builder's own image can't be pulled.
        unschedulable: why no node takes its pod.
        digest: stands in the termination message instead of the real one.
    """

    fetch: bool = True
    log: Sequence[str] = ()
    seconds: float = 0.3
    exit_code: int = 0
    run_killed: bool = False
    oom: bool = False
    no_space: bool = False
    failure: str = ""
    push_failure: str = ""
    push: bool = True
    hang: bool = False
    evicted: str = ""
    cannot_start: bool | str = False
    unschedulable: str = ""
    digest: str | None = None


AppChoice = AppScript | Callable[[Pod], AppScript]


class Scripts:
    """All scripts of a world."""

    def __init__(self) -> None:
        self._apps: list[tuple[str, AppChoice]] = [("*", AppScript())]
        self._builds: list[tuple[str, tuple[BuildScript, ...]]] = [("*", (BuildScript(),))]

    def app(self, pattern: str, script: AppChoice) -> None:
        """From now on new pods of apps of that name behave so; a function chooses by the pod (see `commit_of`)."""
        self._apps.append((pattern, script))

    def build(self, pattern: str, *attempts: BuildScript) -> None:
        """From now on new pods of Jobs of that name go so: one script an attempt, the last for all further ones."""
        if not attempts:
            raise ValueError("a build needs at least one attempt")
        self._builds.append((pattern, attempts))

    def app_of(self, pod: Pod) -> AppScript:
        """The script of an app's pod."""
        name = pod["metadata"].get("labels", {}).get("app", pod["metadata"]["name"])
        script = next(script for pattern, script in reversed(self._apps) if fnmatchcase(name, pattern))
        return script if isinstance(script, AppScript) else script(pod)

    def build_of(self, job: str, attempt: int) -> BuildScript:
        """The script of a Job's pod; attempts count from 0."""
        attempts = next(scripts for pattern, scripts in reversed(self._builds) if fnmatchcase(job, pattern))
        return attempts[min(attempt, len(attempts) - 1)]

    def unschedulable(self, pod: Pod) -> str:
        """Why no node takes the pod, if a script says so."""
        owner: Pod = next(iter(pod["metadata"].get("ownerReferences", [])), {})
        if owner.get("kind") == "Job":
            return self.build_of(owner["name"], 0).unschedulable
        return self.app_of(pod).unschedulable


def commit_of(pod: Pod) -> str:
    """The commit that a pod's template names."""
    return str(pod["metadata"].get("annotations", {}).get(COMMIT, ""))
