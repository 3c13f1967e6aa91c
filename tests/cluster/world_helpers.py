"""What tests of the stand-in's world share: plain objects, a git host and a registry that builds use, short waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from provider.demo.git_server import Content, GitServer
from provider.demo.processes import Server, clean_environment, free_port
from provider.models import Secret
from tests.cluster.standin.world import World

Object = dict[str, Any]
T = TypeVar("T")
APPS, BUILDS = "x1-previews", "x1-builds"
COMMIT = "preview.x1agent.io/commit-sha"
PROBE: Object = {"httpGet": {"path": "/", "port": 3000}, "periodSeconds": 1, "timeoutSeconds": 1}
DOCKERFILE = "FROM scratch\nCOPY . /\nRUN make\n"


# ------------------------------------------------------------------------------------ apps


def deployment(name: str, commit: str = "a1", **spec: Any) -> Object:
    """A Deployment of one pod; `spec` is laid over its container."""
    container = {
        "name": "app",
        "image": f"x1-registry:5000/previews/{name}:{commit}",
        "ports": [{"name": "http", "containerPort": 3000}],
        "readinessProbe": PROBE,
        **spec,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": APPS, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "progressDeadlineSeconds": 60,
            "revisionHistoryLimit": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {COMMIT: commit}},
                "spec": {"terminationGracePeriodSeconds": 10, "containers": [container]},
            },
        },
    }


def service(name: str) -> Object:
    """The Service in front of it."""
    port = {"name": "http", "port": 80, "targetPort": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": APPS, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }


def ingress(name: str, path: str = "/", **annotations: str) -> Object:
    """The Ingress in front of that."""
    backend = {"service": {"name": name, "port": {"number": 80}}}
    kind = "ImplementationSpecific" if "(" in path else "Prefix"
    rule = {
        "host": f"{name}.preview.localhost",
        "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]},
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": APPS, "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [rule]},
    }


def roll(world: World, name: str, commit: str, **spec: Any) -> Object:
    """Change the Deployment's template to another commit."""
    changed = world.store.get("Deployment", APPS, name)
    changed["spec"]["template"] = deployment(name, commit, **spec)["spec"]["template"]
    return world.store.update(changed, manager="test")


def install(world: World, *objects: Object) -> None:
    """Create objects."""
    for obj in objects:
        world.store.create(obj, manager="test")


# -------------------------------------------------------------------------------- looking


def condition(obj: Object, kind: str) -> Object:
    """A condition of its status; empty if there is none."""
    return next((one for one in obj.get("status", {}).get("conditions", []) if one["type"] == kind), {})


def only(world: World, kind: str, namespace: str = APPS) -> Object:
    """The only object of that kind."""
    (found,) = world.store.list(kind, namespace)
    return found


def events(world: World, reason: str, namespace: str = APPS) -> list[Object]:
    """Events with that reason, oldest first."""
    return [event for event in world.store.list("Event", namespace) if event["reason"] == reason]


async def until(world: World, check: Callable[[], T | None], timeout: float = 10.0) -> T:
    """The first truthy answer of `check`, asked after each commit of the store."""
    changed = asyncio.Event()
    forget = world.store.subscribe(lambda event, obj: changed.set())
    try:
        async with asyncio.timeout(timeout):
            while not (found := check()):
                changed.clear()
                await changed.wait()
            return found
    finally:
        forget()


# --------------------------------------------------------------------------------- builds


@dataclass
class Sources:
    """A git host with one repository, and a registry."""

    git: GitServer
    registry: str

    async def commit(self, files: Mapping[str, Content] | None = None, branch: str = "main") -> str:
        """Commit files to acme/shop; the sha."""
        return await self.git.commit("acme/shop", branch, files or {"Dockerfile": DOCKERFILE})

    def context(self, sha: str, branch: str = "main") -> str:
        """The value of `--context`."""
        return f"git://{self.git.url.removeprefix('http://')}/acme/shop.git#refs/heads/{branch}#{sha}"


@asynccontextmanager
async def sources(folder: Path) -> AsyncIterator[Sources]:
    """Both, started."""
    registry = registry_server(folder)
    async with GitServer(folder / "git", username="x-access-token", token=Secret("s3cret")) as git:
        await git.create("acme/shop")
        await registry.start()
        try:
            yield Sources(git, registry.address)
        finally:
            await registry.stop()


def registry_server(folder: Path) -> Server:
    """A registry on a free port; not started."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address, "secret": "only for tests"},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    return Server(
        name="registry",
        argv=("docker-registry", "serve", str(folder / "registry.yml")),
        ready=r"listening on",
        folder=folder,
        env=clean_environment(folder),
        address=address,
    )


def build_job(name: str, context: str, *more: str, destination: str = "x1-registry:5000/previews/shop:t1") -> Object:
    """A Kaniko Job; `more` are further arguments."""
    args = [
        f"--context={context}",
        f"--destination={destination}",
        "--insecure-registry=x1-registry:5000",
        "--digest-file=/dev/termination-log",
        *more,
    ]
    env = [
        {"name": "GIT_USERNAME", "value": "x-access-token"},
        {"name": "GIT_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "clone", "key": "token"}}},
        {"name": "GIT_PULL_METHOD", "value": "http"},
    ]
    container = {"name": "kaniko", "image": "ghcr.io/osscontainertools/kaniko:v1.25.0", "args": args, "env": env}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": BUILDS},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def job(name: str = "task", **spec: Any) -> Object:
    """A Job whose container is no Kaniko: it fetches and pushes nothing, and ends as its script says."""
    container = {"name": "task", "image": "registry.local/task:1"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": BUILDS},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}, **spec},
    }


def clone_secret(token: str = "s3cret") -> Object:
    """The Secret with the clone credentials."""
    metadata = {"name": "clone", "namespace": BUILDS}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}
