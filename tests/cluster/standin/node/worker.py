"""One pod on the node: from the moment it is bound until it is gone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tests.cluster.standin.controllers.base import Key, Tools, is_going, key_of
from tests.cluster.standin.controllers.conditions import put
from tests.cluster.standin.controllers.pods import is_over
from tests.cluster.standin.node import status
from tests.cluster.standin.node.container import COMPONENT, Container
from tests.cluster.standin.node.images import Images
from tests.cluster.standin.node.program import Exit, Program
from tests.cluster.standin.store import ApiError

Object = dict[str, Any]
PHASE_LAG = 1.1
"""Seen: so much later than its containers' ends a pod's phase tells that it is over."""
MOUNT_RETRY = 2.0
PRESSURE = "The node was low on resource"
"""A pod that only exceeded its own limit is no disruption: the kubelet sets no such condition then (read)."""


class PodWorker:
    """Runs a pod's containers and tells the API about them."""

    def __init__(self, tools: Tools, images: Images, pod: Object, address: dict[str, str]) -> None:
        self.clock, self.cache, self.events = tools.clock, tools.cache, tools.events
        self.images = images
        self.containers: list[Container] = []
        self.uid: str = pod["metadata"]["uid"]
        self.key: Key = key_of(pod)
        self._tools = tools
        self._last = pod
        self._address = address
        self.lives: list[asyncio.Task[Exit]] = []
        self._over = False
        self._busy = False
        self.task: asyncio.Task[None] | None = None

    @property
    def pod(self) -> Object:
        """The pod as the store has it, or had it last."""
        known = self.cache.get("Pod", self.key)
        if known is not None and known["metadata"]["uid"] == self.uid:
            self._last = known
        return self._last

    @property
    def ip(self) -> str:
        """The pod's address."""
        return self._address["podIP"]

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """All that runs for this pod."""
        return [*self.lives, *([self.task] if self.task else [])]

    def add(self, spec: Object, program: Program, *, pull_error: str, config_error: str) -> None:
        """Give it a container."""
        container = Container(self, spec, program, pull_error)
        container.config_error = config_error
        self.containers.append(container)

    def start(self) -> None:
        """Begin; the world is not settled before the pod has come to rest."""
        self._busy = True
        self._tools.activity.begin()
        self.task = asyncio.create_task(self._run(), name=f"pod {self.key[1]}")

    def calm(self) -> None:
        """Nothing will change soon."""
        if self._busy:
            self._busy = False
            self._tools.activity.end()

    # ---------------------------------------------------------------------------------- life

    async def _run(self) -> None:
        try:
            await self._mounted()
            self.publish()
            self.lives = [asyncio.create_task(one.run(self._restarts)) for one in self.containers]
            ends = await asyncio.gather(*self.lives, return_exceptions=True)
            self._report(ends)
            await self._finish([end for end in ends if isinstance(end, Exit)])
        except ApiError as error:
            if error.code not in (404, 409):
                self._tools.failures.append(error)
        except Exception as error:
            self._tools.failures.append(error)
        finally:
            self.calm()

    def _report(self, ends: list[Exit | BaseException]) -> None:
        """What is neither an end nor a cancellation is a bug of ours."""
        for end in ends:
            if isinstance(end, Exception):
                self._tools.failures.append(end)

    def _restarts(self, end: Exit) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        going = is_going(self.pod) or bool(end.evicted)
        return not going and (policy == "Always" or (policy == "OnFailure" and end.code != 0))

    async def _mounted(self) -> None:
        """Wait for the Secrets and ConfigMaps of its volumes."""
        while missing := [
            problem for volume in self.pod["spec"].get("volumes", []) if (problem := self._lacks(volume))
        ]:
            for problem in missing:
                self.events.warning(self.pod, "FailedMount", problem, by=COMPONENT)
            self.publish()
            self.calm()
            await self.clock.sleep(MOUNT_RETRY)

    def _lacks(self, volume: Object) -> str:
        for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            source = volume.get(field)
            if source and not source.get("optional") and not self.cache.get(kind, (self.key[0], source[name])):
                what = f'MountVolume.SetUp failed for volume "{volume["name"]}" '
                return f'{what}: {kind.lower()} "{source[name]}" not found'
        return ""

    async def _finish(self, ends: list[Exit]) -> None:
        """Tell that it is over, later than it is, unless it goes anyway."""
        evicted = next((end.evicted for end in ends if end.evicted), "")
        if not evicted and not is_going(self.pod):
            await self.clock.sleep(PHASE_LAG)
        if not is_going(self.pod):
            self._over = True
            self.publish(evicted)

    async def end(self, grace: float) -> None:
        """The pod is being deleted: its containers have `grace` seconds, then the API may forget it."""
        with self._tools.activity.one():
            lives = zip(self.containers, self.lives, strict=False)
            if not self.lives and self.task is not None:  # it still waits for its volumes
                self.task.cancel()
            for life in [life for container, life in lives if not container.stop(grace)]:
                life.cancel()
            if self.task is not None:
                await asyncio.wait({self.task})
            with contextlib.suppress(ApiError):
                self._tools.store.delete("Pod", *self.key, uid=self.uid, grace=0)

    def kill(self) -> None:
        """End at once; the pod is gone already."""
        for task in self.tasks:
            task.cancel()
        self.calm()

    # ------------------------------------------------------------------------------- telling

    def publish(self, evicted: str = "") -> None:
        """Write the status, if it changed and the pod is still there."""
        pod = self.cache.get("Pod", self.key)
        if pod is None or pod["metadata"]["uid"] != self.uid or is_over(pod):
            return
        statuses, now = [one.status() for one in self.containers], self.clock.stamp()
        phase = status.final_phase(statuses) if self._over else status.phase_of(pod, statuses)
        begun = any("waiting" not in one["state"] or one["restartCount"] for one in statuses)
        address = self._address if begun else {"hostIP": self._address["hostIP"]}
        told = status.status_of(pod, statuses, "Failed" if evicted else phase, now, address)
        if evicted:
            told |= {"reason": "Evicted", "message": evicted}
            why = {"reason": "TerminationByKubelet", "message": evicted}
            if evicted.startswith(PRESSURE):
                put(told["conditions"], "DisruptionTarget", True, now, **why)
            self.events.warning(pod, "Evicted", evicted, by=COMPONENT)
        if told != pod["status"]:
            self._tools.store.update({**pod, "status": told}, manager="kubelet", subresource="status")
