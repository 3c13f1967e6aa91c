"""The node's kubelet: a worker for each pod that is bound to it, the logs of its containers, a way to ask them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from typing import Any

from tests.cluster.standin.controllers.base import Key, Tools, is_going
from tests.cluster.standin.controllers.pods import is_over
from tests.cluster.standin.kaniko.build import Build
from tests.cluster.standin.kaniko.executor import Network
from tests.cluster.standin.node import security
from tests.cluster.standin.node.container import Container
from tests.cluster.standin.node.images import Images, not_found
from tests.cluster.standin.node.log import ContainerLog, Line
from tests.cluster.standin.node.program import App, Task
from tests.cluster.standin.node.scheduler import Node
from tests.cluster.standin.node.worker import PodWorker
from tests.cluster.standin.script import Answer, Asked, BuildScript, Scripts

Object = dict[str, Any]
BUILDER = "kaniko"
"""What stands in the name of an image that builds."""


class Kubelet:
    """Everything on the node; it also is the API server's source of logs (`PodLogs`)."""

    def __init__(self, tools: Tools, node: Node, scripts: Scripts, network: Network) -> None:
        self._tools = tools
        self._node = node
        self._scripts = scripts
        self._network = network
        self._images = Images(tools.clock, network.registries)
        self._workers: dict[str, PodWorker] = {}
        self._at: dict[str, PodWorker] = {}  # by address, each of which is given once
        self._addresses = count(2)
        self._attempts: dict[str, int] = {}
        self._ending: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------------ following pods

    def notice(self, event: str, obj: Object) -> None:
        """React to a commit about a pod of this node."""
        if obj["kind"] != "Pod" or obj["spec"].get("nodeName") != self._node.name:
            return
        uid = obj["metadata"]["uid"]
        worker = self._workers.get(uid)
        if event == "DELETED":
            if worker is not None:
                del self._workers[uid], self._at[worker.ip]
                worker.kill()
        elif is_going(obj):
            self._end(uid, worker, obj)
        elif worker is None and not is_over(obj):
            self._start(obj)

    def _start(self, pod: Object) -> None:
        number = next(self._addresses)
        address = {"hostIP": self._node.address, "podIP": f"10.244.{number // 250}.{number % 250 + 1}"}
        worker = PodWorker(self._tools, self._images, pod, address)
        self._workers[pod["metadata"]["uid"]] = self._at[worker.ip] = worker
        owner: Object = next(iter(pod["metadata"].get("ownerReferences", [])), {})
        build = self._build_script(owner) if owner.get("kind") == "Job" else None
        for spec in pod["spec"]["containers"]:
            if build is None:
                self._add_app(worker, spec)
            else:
                self._add_task(worker, spec, build)
        worker.start()

    def _end(self, uid: str, worker: PodWorker | None, pod: Object) -> None:
        """Begin the end of a pod, once."""
        name = f"end {uid}"
        if worker is None or any(task.get_name() == name for task in self._ending):
            return
        grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
        task = asyncio.create_task(worker.end(grace), name=name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _build_script(self, job: Object) -> BuildScript:
        """The script of a Job's next attempt."""
        attempt = self._attempts.get(job["uid"], 0)
        self._attempts[job["uid"]] = attempt + 1
        return self._scripts.build_of(job["name"], attempt)

    def _add_app(self, worker: PodWorker, spec: Object) -> None:
        script = self._scripts.app_of(worker.pod)
        refusal = script.config_error or (security.refuses_root(worker.pod, spec) if script.needs_root else "")
        pull_error = _words(script.cannot_pull, spec["image"])
        worker.add(spec, App(script), pull_error=pull_error, config_error=refusal)

    def _add_task(self, worker: PodWorker, spec: Object, script: BuildScript) -> None:
        pull_error = _words(script.cannot_start, spec["image"])
        if BUILDER not in spec["image"]:
            worker.add(spec, Task(script), pull_error=pull_error, config_error="")
            return
        program = Build(script, self._network, security.lacking_for_builds(spec))
        refusal = security.refuses_root(worker.pod, spec)
        worker.add(spec, program, pull_error=pull_error, config_error=refusal)

    def evict(self, namespace: str, pod: str, message: str) -> None:
        """Throw a running pod out, as under pressure on memory or disk; KeyError if it does not run."""
        worker = next((one for one in self._workers.values() if one.key == (namespace, pod)), None)
        if worker is None:
            raise KeyError(pod)
        for container in worker.containers:
            container.evict(message)

    async def stop(self) -> None:
        """End everything at once, as if the node lost power."""
        tasks = [task for worker in self._workers.values() for task in worker.tasks]
        for worker in self._workers.values():
            worker.kill()
        await asyncio.gather(*tasks, *self._ending, return_exceptions=True)

    # ---------------------------------------------------------------------------- asking containers

    async def ask(self, ip: str, port: int, asked: Asked) -> Answer:
        """The answer of what listens at a pod's address.

        Raises:
            ConnectionRefusedError: nothing does.
        """
        worker = self._at.get(ip)
        for container in worker.containers if worker is not None else ():
            life = container.life
            if life is not None and container.program.listens(life, port):
                known = replace(asked, env=life.env, annotations=life.annotations, age=life.age)
                return await container.program.answer(life, known)
        raise ConnectionRefusedError(f"{ip}:{port}")

    # ----------------------------------------------------------------------------------------- logs

    def lines(self, namespace: str, pod: str, container: str, *, previous: bool) -> list[Line]:
        """What a container printed; KeyError if there is no such log."""
        found = self._container((namespace, pod), container)
        return list(_log(found.previous_log if previous else found.log).lines)

    def follow(self, namespace: str, pod: str, container: str) -> AsyncIterator[Line]:
        """A container's log from the beginning until it ends; KeyError if there is none."""
        return _log(self._container((namespace, pod), container).log).follow()

    def _container(self, key: Key, name: str) -> Container:
        workers = [worker for worker in self._workers.values() if worker.key == key]
        return next((one for worker in workers for one in worker.containers if one.name == name), None) or _none(name)


def _none(name: str) -> Container:
    raise KeyError(name)


def _log(log: ContainerLog | None) -> ContainerLog:
    if log is None:
        raise KeyError("log")
    return log


def _words(scripted: bool | str, image: str) -> str:
    """A scripted failure to pull an image, in containerd's words if the script has none."""
    return not_found(image) if scripted is True else str(scripted or "")
