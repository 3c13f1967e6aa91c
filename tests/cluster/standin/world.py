"""A whole cluster in one process: the API, its controllers, a node, and an ingress. What fixtures start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from tests.cluster.standin.clock import Clock
from tests.cluster.standin.controllers.base import Activity, Cache, Controller, Tools
from tests.cluster.standin.controllers.deployment import DeploymentController
from tests.cluster.standin.controllers.endpointslice import EndpointSliceController
from tests.cluster.standin.controllers.events import EventRecorder
from tests.cluster.standin.controllers.job import JobController
from tests.cluster.standin.controllers.replicaset import ReplicaSetController
from tests.cluster.standin.ingress import Ingress
from tests.cluster.standin.kaniko.executor import Network
from tests.cluster.standin.node.kubelet import Kubelet
from tests.cluster.standin.node.scheduler import Node, Scheduler
from tests.cluster.standin.script import Scripts
from tests.cluster.standin.server import ApiServer
from tests.cluster.standin.store import Store
from tests.cluster.standin.timings import Timings

Object = dict[str, Any]
COLLECTING = 0.05
"""Seconds of ours in which the garbage collector has begun what a deletion leaves to it."""


class World:
    """A cluster; an async context manager. Bugs of the stand-in that came up inside it are raised at its end.

    Args:
        speed: seconds of the cluster in one of ours.
        namespaces: made at the start; a mapping gives them labels.
        node: what the only node can take.
        registries: where registries really are that image references name (host:port, plain HTTP).
        domain: the ingress has a wildcard certificate for it.
        ingress_class: the class of Ingresses that it serves.
        ingress_lag: seconds of the cluster in which the ingress follows the API.

    Attributes:
        scripts: how apps and builds behave; change it at any time.
        timings: how long builds and rollouts took.
        api, ingress, kubelet, store, clock: the parts.
    """

    def __init__(
        self,
        *,
        speed: float = 20.0,
        namespaces: Iterable[str] | Mapping[str, Mapping[str, str]] = (),
        node: Node | None = None,
        registries: Mapping[str, str] | None = None,
        domain: str = "preview.localhost",
        ingress_class: str = "nginx",
        ingress_lag: float = 0.1,
    ) -> None:
        self.scripts = Scripts()
        self.timings = Timings()
        self.clock = Clock(speed)
        self.store = Store(self.clock.now)
        self._tools = _tools(self.store, self.clock)
        node = node or Node()
        self.kubelet = Kubelet(self._tools, node, self.scripts, Network(registries or {}))
        self.ingress = Ingress(
            self._tools, self.kubelet.ask, domain=domain, ingress_class=ingress_class, lag=ingress_lag
        )
        self.api = ApiServer(store=self.store, logs=self.kubelet, clock=self.clock)
        self._namespaces = namespaces
        kinds = (DeploymentController, ReplicaSetController, JobController, EndpointSliceController)
        scheduler = Scheduler(self._tools, node, self.scripts)
        self._controllers: list[Controller] = [scheduler, *(kind(self._tools) for kind in kinds)]

    async def __aenter__(self) -> Self:
        controllers = [one.notice for one in self._controllers]
        self._tools.cache.follow([self.timings.notice, *controllers, self.kubelet.notice, self.ingress.notice])
        labels = self._namespaces if isinstance(self._namespaces, Mapping) else {name: {} for name in self._namespaces}
        for name, given in labels.items():
            self.namespace(name, **given)
        await self.ingress.start()
        await self.api.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.api.stop()
        for controller in self._controllers:
            controller.stop()
        self._tools.cache.close()
        await self.kubelet.stop()
        await self.ingress.stop()
        if self._tools.failures and error is None:
            raise ExceptionGroup(
                "the stand-in failed", [one for one in self._tools.failures if isinstance(one, Exception)]
            )

    def namespace(self, name: str, **labels: str) -> None:
        """Make a namespace, e.g. with Pod Security labels."""
        metadata = {"name": name, "labels": labels}
        self.store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, manager="admin")

    async def settled(self, timeout: float = 30.0) -> None:
        """Wait until nothing is under way: what waits for ever, for a probe or for a back-off is not.

        Raises:
            TimeoutError: after `timeout` seconds of ours.
        """
        async with asyncio.timeout(timeout):
            quiet = False
            while not quiet:
                await self._tools.activity.idle()
                await asyncio.sleep(COLLECTING)
                quiet = self._tools.activity.is_idle


def _tools(store: Store, clock: Clock) -> Tools:
    return Tools(store, clock, Cache(store), Activity(), EventRecorder(store, clock))
