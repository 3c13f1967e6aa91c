"""The node's kubelet: a worker for each pod that is bound to it, the logs of its containers, a way to ask them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from tests.cluster.standin.controllers.base import Key, Tools, is_going
from tests.cluster.standin.controllers.pods import is_over
from tests.cluster.standin.kaniko.build import Build, Network
from tests.cluster.standin.node.container import Container
from tests.cluster.standin.node.images import Images, not_found
from tests.cluster.standin.node.log import ContainerLog, Line
from tests.cluster.standin.node.program import App, Program, Task
from tests.cluster.standin.node.scheduler import Node
from tests.cluster.standin.node.worker import PodWorker
from tests.cluster.standin.script import Answer, Asked, Scripts

Object = dict[str, Any]
SYNC = 0.05


class Kubelet:
    """Everything on the node; it also is the API server's source of logs (`PodLogs`)."""

    def __init__(self, tools: Tools, node: Node, scripts: Scripts, network: Network) -> None:
        self._tools = tools
        self._node = node
        self._scripts = scripts
        self._network = network
        self._images = Images(tools.clock, network.registries)
        self._workers: dict[str, PodWorker] = {}
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
                del self._workers[uid]
                worker.kill()
        elif is_going(obj):
            self._end(uid, worker, obj)
        elif worker is None and not is_over(obj):
            self._start(obj)

    def _start(self, pod: Object) -> None:
        number = next(self._addresses)
        address = {"hostIP": self._node.address, "podIP": f"10.244.{number // 250}.{number % 250 + 1}"}
        worker = PodWorker(self._tools, self._images, pod, address)
        self._workers[pod["metadata"]["uid"]] = worker
        program, pull_error, config_error = self._program(pod)
        for spec in pod["spec"]["containers"]:
            words = not_found(spec["image"]) if pull_error is True else str(pull_error or "")
            worker.add(spec, program, pull_error=words, config_error=config_error)
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

    def _program(self, pod: Object) -> tuple[Program, bool | str, str]:
        """What runs in a pod, why its image can't be pulled, and why its container can't be created."""
        owner: Object = next(iter(pod["metadata"].get("ownerReferences", [])), {})
        if owner.get("kind") != "Job":
            app = self._scripts.app_of(pod)
            return App(app), app.cannot_pull, app.config_error
        attempt = self._attempts.get(owner["uid"], 0)
        self._attempts[owner["uid"]] = attempt + 1
        script = self._scripts.build_of(owner["name"], attempt)
        builds = any("kaniko" in container["image"] for container in pod["spec"]["containers"])
        return Build(script, self._network) if builds else Task(script), script.cannot_start, ""

    async def stop(self) -> None:
        """End everything at once, as if the node lost power."""
        tasks = [task for worker in self._workers.values() for task in (worker.task, *worker.lives) if task]
        for worker in self._workers.values():
            worker.kill()
        await asyncio.gather(*tasks, *self._ending, return_exceptions=True)

    # ---------------------------------------------------------------------------- asking containers

    async def ask(self, ip: str, port: int, asked: Asked) -> Answer:
        """The answer of what listens at a pod's address.

        Raises:
            ConnectionRefusedError: nothing does.
        """
        for worker in self._workers.values():
            for container in worker.containers if worker.ip == ip else ():
                life = container.life
                if life is not None and container.program.listens(life, port):
                    known = Asked(asked.method, asked.path, asked.headers, asked.body, life.env, life.annotations)
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
