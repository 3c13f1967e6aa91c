"""Where the cluster tests run: the stand-in, or a real cluster (`make test-cluster`).

Both give the same: two namespaces, a kubeconfig that may do just what the Roles of `manifests/base` allow, a registry,
a git host's address, an ingress.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provider.demo.base_image import push_base_image
from provider.demo.stack import registry_server
from tests.cluster.admin import Admin, admin, service_account_kubeconfig
from tests.cluster.ingress_proxy import ingress_proxy
from tests.cluster.standin.world import World as StandIn

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests" / "base"
ACCOUNT = "x1-preview-provider"
DOMAIN = "preview.test"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """A cluster, and what around it a provider needs.

    Attributes:
        api: with every right.
        kubeconfig: the provider's.
        standin: the stand-in, to be scripted; None on a real cluster.
    """

    api: Admin
    kubeconfig: Path
    previews: str
    builds: str
    registry: str
    pull_registry: str
    kaniko_image: str
    git_host: str
    ingress: str
    ca_file: Path
    base_image: str
    standin: StandIn | None = None

    def environment(self) -> dict[str, str]:
        """Settings for a provider here."""
        return {
            "PLATFORM": "kubernetes",
            "KUBECONFIG": str(self.kubeconfig),
            "PREVIEW_NAMESPACE": self.previews,
            "BUILD_NAMESPACE": self.builds,
            "REGISTRY_ADDRESS": self.registry,
            "REGISTRY_PULL_ADDRESS": self.pull_registry,
            "REGISTRY_INSECURE": "true",
            "KANIKO_IMAGE": self.kaniko_image,
            "PREVIEW_DOMAIN": DOMAIN,
            "INGRESS_ADDRESS": self.ingress,
            "PUBLIC_CA_FILE": str(self.ca_file),
            "BUILD_CPU": "1",
            "BUILD_MEMORY": "1Gi",
            "BUILD_DISK": "4Gi",
        }


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """The stand-in; a real cluster where the environment names its registry (see the Makefile)."""
    chosen = _real(folder) if "CLUSTER_REGISTRY" in os.environ else stand_in(folder)
    async with chosen as made:
        yield made


@asynccontextmanager
async def stand_in(folder: Path, **options: Any) -> AsyncIterator[Place]:
    """A stand-in, with what is around it; `options` are its own (see `StandIn`)."""
    registry = registry_server(folder)
    async with AsyncExitStack() as cleanup:
        await registry.start()
        cleanup.push_async_callback(registry.stop)
        known = {registry.address: registry.address}
        world = await cleanup.enter_async_context(StandIn(domain=DOMAIN, registries=known, **options))
        root = world.api.kubeconfig(folder, "admin")
        api = await cleanup.enter_async_context(admin(root))
        await _install(api, "x1-previews", "x1agent")
        ca_file = folder / "ingress-ca.pem"
        ca_file.write_text(world.ingress.ca_pem)
        yield Place(
            api=api,
            kubeconfig=world.api.kubeconfig(folder, f"system:serviceaccount:x1agent:{ACCOUNT}"),
            previews="x1-previews",
            builds="x1agent",
            registry=registry.address,
            pull_registry=registry.address,
            kaniko_image="ghcr.io/osscontainertools/kaniko:v1.28.5",
            git_host=LOOPBACK,
            ingress=world.ingress.address,
            ca_file=ca_file,
            base_image=await push_base_image(registry.address, folder),
            standin=world,
        )


@asynccontextmanager
async def _real(folder: Path) -> AsyncIterator[Place]:
    root = Path(os.environ["KUBECONFIG"]).absolute()
    mark = secrets.token_hex(3)
    previews, builds = f"x1-test-previews-{mark}", f"x1-test-builds-{mark}"
    pushed = os.environ["CLUSTER_REGISTRY"]
    async with AsyncExitStack() as cleanup:
        api = await cleanup.enter_async_context(admin(root))
        for namespace in (previews, builds):
            cleanup.push_async_callback(api.delete, "Namespace", "", namespace)
        await _install(api, previews, builds)
        if "CLUSTER_INGRESS_ADDRESS" in os.environ:
            ingress, ca_file = os.environ["CLUSTER_INGRESS_ADDRESS"], Path(os.environ["CLUSTER_INGRESS_CA"])
        else:
            front = await cleanup.enter_async_context(ingress_proxy(api, previews, DOMAIN, folder))
            ingress, ca_file = front.address, front.ca_file
        yield Place(
            api=api,
            kubeconfig=await service_account_kubeconfig(api, root, builds, ACCOUNT, folder / "account.yaml"),
            previews=previews,
            builds=builds,
            registry=pushed,
            pull_registry=os.environ.get("CLUSTER_PULL_REGISTRY", pushed),
            kaniko_image=os.environ["CLUSTER_KANIKO_IMAGE"],
            git_host=os.environ["CLUSTER_GIT_HOST"],
            ingress=ingress,
            ca_file=ca_file,
            base_image=await push_base_image(pushed, folder),
        )


async def _install(api: Admin, previews: str, builds: str) -> None:
    """The namespaces and Roles of `manifests/base`, under these namespaces' names."""
    renamed = {"x1-previews": previews, "x1agent": builds}
    for file in ("namespaces.yaml", "rbac.yaml"):
        for body in yaml.safe_load_all((MANIFESTS / file).read_text()):
            await api.create(_renamed(body, renamed))


def _renamed(body: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    metadata = dict(body["metadata"])
    if body["kind"] == "Namespace":
        metadata["name"] = renamed[metadata["name"]]
    else:
        metadata["namespace"] = renamed[metadata["namespace"]]
    subjects = [{**one, "namespace": renamed[one["namespace"]]} for one in body.get("subjects", [])]
    return {**body, "metadata": metadata, **({"subjects": subjects} if subjects else {})}
