"""One container of a pod through all its restarts, with the waits and words of a real kubelet."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from tests.cluster.standin.clock import Clock
from tests.cluster.standin.controllers.base import Cache
from tests.cluster.standin.controllers.events import EventRecorder
from tests.cluster.standin.node import probes
from tests.cluster.standin.node.environment import ConfigError, environment_of, expand
from tests.cluster.standin.node.images import Images, NotPulled, shown
from tests.cluster.standin.node.log import ContainerLog
from tests.cluster.standin.node.program import KILLED_CODE, TERMINATED_CODE, Exit, Life, Program

Object = dict[str, Any]
COMPONENT = "kubelet"
START = 0.3
"""Seconds to make a sandbox and start a process."""
CONFIG_RETRY = 10.0
BACKOFF_SHOWS_AFTER = 1.0
"""For so long a failed pull is ErrImagePull, then it is ImagePullBackOff."""
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 300.0
TAIL_LINES, TAIL_SIZE = 80, 2048
"""What of a log becomes a termination message, where the pod wants that."""


class Host(Protocol):
    """What a container needs of the pod around it."""

    clock: Clock
    cache: Cache
    events: EventRecorder
    images: Images

    @property
    def pod(self) -> Object:
        """The pod as the store has it."""

    @property
    def ip(self) -> str:
        """The pod's address."""

    def publish(self) -> None:
        """Tell the API what changed."""

    def calm(self) -> None:
        """Nothing will change soon."""


class Container:
    """Pulls, starts, probes, ends, backs off, starts again."""

    def __init__(self, host: Host, spec: Object, program: Program, pull_error: str) -> None:
        self.host = host
        self.spec = spec
        self.name: str = spec["name"]
        self.program = program
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts = 0
        self.ready = self.started = False
        self.image_id = self.id = ""
        self.life: Life | None = None
        self.log: ContainerLog | None = None
        self.previous_log: ContainerLog | None = None
        self.end: Exit | None = None
        self.config_error = ""
        self._pull_error = pull_error
        self._evicted = ""
        self._stop: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------------------------ telling

    def status(self) -> Object:
        """Its entry in the pod's `containerStatuses`."""
        return {
            "name": self.name,
            "image": shown(self.spec["image"], self.image_id),
            "imageID": self.image_id,
            **({"containerID": self.id} if self.id else {}),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def say(self, reason: str, message: str, *, warn: bool = False) -> None:
        """Write an event about this container."""
        write = self.host.events.warning if warn else self.host.events.normal
        write(self.host.pod, reason, message, by=COMPONENT, field=f"spec.containers{{{self.name}}}")

    def wait(self, reason: str, message: str = "") -> None:
        """It waits for this reason."""
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        self.host.publish()

    # ------------------------------------------------------------------------------- living

    def stop(self, grace: float) -> bool:
        """Ask a running container to end within `grace` seconds; False if it does not run."""
        if self.life is None:
            return False
        if not self._stop.done():
            self.say("Killing", f"Stopping container {self.name}")
            self._stop.set_result(grace)
        return True

    def evict(self, message: str) -> None:
        """End at once because the node needs room."""
        self._evicted = message
        if not self._stop.done():
            self._stop.set_result(0.0)

    async def run(self, restarts: Callable[[Exit], bool]) -> Exit:
        """Until it has ended for good."""
        await self._pulled()
        while True:
            env = await self._configured()
            await self.host.clock.sleep(START)
            self.end = await self._live(self._begin(env))
            if self._stop.done() or not restarts(self.end):
                return self.end
            await self._back_off()

    async def _pulled(self) -> None:
        wait = FIRST_BACKOFF
        while True:
            try:
                self.image_id = await self.host.images.pull(self.spec, self._pull_error, self.say)
            except NotPulled as error:
                self.say("Failed", f'Failed to pull image "{self.spec["image"]}": {error}', warn=True)
                self.say("Failed", "Error: ErrImagePull", warn=True)
                self.wait("ErrImagePull", str(error))
                self.host.calm()
                await self.host.clock.sleep(BACKOFF_SHOWS_AFTER)
                await self._image_back_off(str(error), wait)
                wait = min(2 * wait, LONGEST_BACKOFF)
            else:
                return

    async def _image_back_off(self, error: str, wait: float) -> None:
        words = f'Back-off pulling image "{self.spec["image"]}"'
        self.say("BackOff", words)
        self.say("Failed", "Error: ImagePullBackOff", warn=True)
        self.wait("ImagePullBackOff", f"{words}: ErrImagePull: {error}")
        await self.host.clock.sleep(wait)

    async def _configured(self) -> dict[str, str]:
        """The environment, as soon as all that it refers to is there."""
        while True:
            try:
                if self.config_error:
                    raise ConfigError(self.config_error)
                return environment_of(self.host.pod, self.spec, self.host.cache)
            except ConfigError as error:
                self.say("Failed", f"Error: {error}", warn=True)
                self.wait("CreateContainerConfigError", str(error))
            self.host.calm()
            await self.host.clock.sleep(CONFIG_RETRY)

    def _begin(self, env: dict[str, str]) -> Life:
        command = (*self.spec.get("command", []), *self.spec.get("args", []))
        annotations = self.host.pod["metadata"].get("annotations", {})
        args = tuple(expand(word, env) for word in command)
        self.previous_log, self.log = self.log, ContainerLog(self.host.clock)
        message_path = self.spec.get("terminationMessagePath", "/dev/termination-log")
        self.life = Life(self.host.clock, self.log, env, args, annotations, self.restarts, message_path, self.host.calm)
        self.id = f"containerd://{secrets.token_hex(32)}"
        self.state = {"running": {"startedAt": self.host.clock.stamp()}}
        self.started = "startupProbe" not in self.spec
        self.ready = self.started and "readinessProbe" not in self.spec
        self.say("Created", "Container created")
        self.say("Started", "Container started")
        self.host.publish()
        return self.life

    async def _live(self, life: Life) -> Exit:
        run = asyncio.ensure_future(self.program.run(life))
        watch = asyncio.ensure_future(probes.watch(self))
        try:
            ends: set[asyncio.Future[Any]] = {run, watch, self._stop}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            end = run.result() if run.done() else await self._terminated(watch, run)
        finally:
            for task in (run, watch):
                task.cancel()
            self.life = None
            life.log.close()
            await asyncio.gather(run, watch, return_exceptions=True)
        self._ended(life, end)
        return end

    async def _terminated(self, watch: asyncio.Future[str], run: asyncio.Future[Exit]) -> Exit:
        """Let it stop in its own time, as long as the grace period allows."""
        if self._evicted:
            return Exit(KILLED_CODE, evicted=self._evicted)
        grace = float(self.host.pod["spec"].get("terminationGracePeriodSeconds", 30))
        if self._stop.done():
            grace = self._stop.result()
        else:
            self.say("Killing", watch.result())
        patience = min(_pre_stop(self.spec) + self.program.stop_after, grace)
        await asyncio.wait({run}, timeout=patience / self.host.clock.speed)
        if run.done():
            return run.result()
        return Exit(TERMINATED_CODE if patience < grace else KILLED_CODE)

    def _ended(self, life: Life, end: Exit) -> None:
        if self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and end.code:
            life.termination_message = life.termination_message or life.log.tail(TAIL_LINES, TAIL_SIZE)
        self.ready = self.started = False
        self.state = {
            "terminated": {
                "exitCode": end.code,
                "reason": end.told,
                "startedAt": _started(self.state),
                "finishedAt": self.host.clock.stamp(),
                "containerID": self.id,
                **({"message": life.termination_message} if life.termination_message else {}),
            }
        }
        self.host.publish()

    async def _back_off(self) -> None:
        """The first restart comes at once, each further one after twice the wait."""
        self.last_state = self.state
        if self.restarts:
            wait = min(FIRST_BACKOFF * 2 ** (self.restarts - 1), LONGEST_BACKOFF)
            metadata = self.host.pod["metadata"]
            where = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            self.say("BackOff", f"Back-off restarting failed container {self.name} in pod {where}", warn=True)
            seconds = f"{wait:.0f}s" if wait < 60 else f"{wait // 60:.0f}m{wait % 60:.0f}s"
            self.wait("CrashLoopBackOff", f"back-off {seconds} restarting failed container={self.name} pod={where}")
            self.host.calm()
            await self.host.clock.sleep(wait)
        self.restarts += 1


def _started(state: Object) -> str:
    return str(state["running"]["startedAt"])


def _pre_stop(spec: Object) -> float:
    """Seconds of a preStop hook that sleeps; other hooks take no time."""
    hook = spec.get("lifecycle", {}).get("preStop", {})
    if "sleep" in hook:
        return float(hook["sleep"]["seconds"])
    command = hook.get("exec", {}).get("command", [])
    return float(command[1]) if len(command) == 2 and command[0].endswith("sleep") else 0.0
