"""Where the cluster tests run: the stand-in, or a real cluster (`make test-cluster`).

Both give the same: two namespaces, a kubeconfig that may do just what the Roles of `manifests/base` allow, a registry,
a git host's address, an ingress.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certifi

from provider.demo.base_image import push_base_image
from provider.demo.stack import registry_server
from tests.cluster.admin import Admin, admin, service_account_kubeconfig
from tests.cluster.ingress_proxy import ingress_proxy
from tests.cluster.kustomize import Object, built
from tests.cluster.standin.manifests import load_manifests
from tests.cluster.standin.world import World as StandIn

SYSTEM, BUILDS, PREVIEWS = "x1agent", "x1-builds", "x1-previews"
"""The namespaces of `manifests/base`."""
ACCOUNT = "x1-preview-provider"
RIGHTS = {"Namespace", "ServiceAccount", "Role", "RoleBinding"}
IMAGES = {"Deployment", "CronJob", "PodDisruptionBudget", "PersistentVolumeClaim", "Service"}
USER = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
DOMAIN = "preview.test"
LOOPBACK = "127.0.0.1"
INGRESS = ("INGRESS_CLASS", "INGRESS_NAMESPACE")
"""What a real cluster may have to say of its ingress, with CLUSTER_ before it."""
PULLED = "registry.test:5000"
"""The registry as the stand-in's nodes call it; builds push to its address."""


@dataclass(frozen=True)
class Place:
    """A cluster, and what around it a provider needs.

    Attributes:
        api: with every right.
        kubeconfig: the provider's.
        standin: the stand-in, to be scripted; None on a real cluster.
        more: further settings for a provider here.
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
    more: Mapping[str, str] = field(default_factory=dict)

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
            **self.more,
        }


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """The stand-in; a real cluster where the environment names its registry (see the Makefile)."""
    chosen = _real(folder) if "CLUSTER_REGISTRY" in os.environ else stand_in(folder)
    async with chosen as made:
        yield made


@asynccontextmanager
async def stand_in(folder: Path, installed: Sequence[Object] | None = None, **options: Any) -> AsyncIterator[Place]:
    """A stand-in, with what is around it.

    Args:
        folder: for what it writes.
        installed: what an administrator applied there; by default what of `manifests/base` says who may do what.
        options: its own (see `StandIn`).
    """
    registry = registry_server(folder)
    async with AsyncExitStack() as cleanup:
        await registry.start()
        cleanup.push_async_callback(registry.stop)
        known = dict.fromkeys((registry.address, PULLED), registry.address)
        world = await cleanup.enter_async_context(StandIn(domain=DOMAIN, registries=known, **options))
        root = world.api.kubeconfig(folder, "admin")
        api = await cleanup.enter_async_context(admin(root))
        load_manifests(world.store, installed or [body for body in built("base") if body["kind"] in RIGHTS])
        ca_file = folder / "ingress-ca.pem"
        ca_file.write_text(world.ingress.ca_pem)
        yield Place(
            api=api,
            kubeconfig=world.api.kubeconfig(folder, USER),
            previews=PREVIEWS,
            builds=BUILDS,
            registry=registry.address,
            pull_registry=PULLED,
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
    system, builds, previews = (f"{name}-test-{mark}" for name in (SYSTEM, BUILDS, PREVIEWS))
    pushed = os.environ["CLUSTER_REGISTRY"]
    async with AsyncExitStack() as cleanup:
        api = await cleanup.enter_async_context(admin(root))
        for namespace in (system, builds, previews):
            cleanup.push_async_callback(api.delete, "Namespace", "", namespace)
        await _install(api, {SYSTEM: system, BUILDS: builds, PREVIEWS: previews})
        if "CLUSTER_INGRESS_ADDRESS" in os.environ:
            ingress = os.environ["CLUSTER_INGRESS_ADDRESS"]
            ca_file = Path(os.environ.get("CLUSTER_INGRESS_CA") or certifi.where())
        else:
            front = await cleanup.enter_async_context(ingress_proxy(api, previews, DOMAIN, folder))
            ingress, ca_file = front.address, front.ca_file
        yield Place(
            api=api,
            kubeconfig=await service_account_kubeconfig(api, root, system, ACCOUNT, folder / "account.yaml"),
            previews=previews,
            builds=builds,
            registry=pushed,
            pull_registry=os.environ.get("CLUSTER_PULL_REGISTRY", pushed),
            kaniko_image=os.environ["CLUSTER_KANIKO_IMAGE"],
            git_host=os.environ["CLUSTER_GIT_HOST"],
            ingress=ingress,
            ca_file=ca_file,
            base_image=await push_base_image(pushed, folder),
            more={name: os.environ[f"CLUSTER_{name}"] for name in INGRESS if f"CLUSTER_{name}" in os.environ},
        )


async def _install(api: Admin, renamed: dict[str, str]) -> None:
    """`manifests/base` under other names, but for what needs images: the tests run registry and provider themselves."""
    for body in built("base"):
        if body["kind"] in IMAGES or body["metadata"]["name"].startswith("x1-registry"):
            continue
        if body["kind"] == "NetworkPolicy" and body["metadata"]["name"] == BUILDS:
            body["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": f"{host}/32"}} for host in _private_hosts()]})
        await api.create(_renamed(body, renamed))


def _private_hosts() -> list[str]:
    """Where builds find git and the registry here: addresses that the base keeps them from."""
    names = (os.environ["CLUSTER_GIT_HOST"], os.environ["CLUSTER_REGISTRY"].rpartition(":")[0])
    return sorted({socket.gethostbyname(name) for name in names})


def _renamed(body: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    """An object with other namespaces in place of those of the base, wherever they are named."""
    text = json.dumps(body)
    for name, other in renamed.items():
        text = re.sub(rf'("(?:namespace|kubernetes\.io/metadata\.name)": )"{name}"', rf'\1"{other}"', text)
    changed = json.loads(text)
    if changed["kind"] == "Namespace":
        changed["metadata"]["name"] = renamed[body["metadata"]["name"]]
    return dict(changed)
