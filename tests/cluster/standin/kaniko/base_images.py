"""Base images: looked up by the rules for mirrors and maps, in those registries that the world knows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import aiohttp

from tests.cluster.standin.kaniko.flags import Flags
from tests.cluster.standin.kaniko.registry import RegistryError

DOCKER_HUB = "index.docker.io"
HUB_NAMES = frozenset({"docker.io", DOCKER_HUB})
ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        *("docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2"),
        *("oci.image.manifest.v1", "oci.image.index.v1"),
    )
)


@dataclass(frozen=True)
class Registries:
    """Where to ask instead of a registry, which of them may be asked in plain HTTP, and where they really are."""

    instead: Mapping[str, list[str]]
    plain: frozenset[str]
    addresses: Mapping[str, str]

    @classmethod
    def of(cls, options: Flags, addresses: Mapping[str, str]) -> Self:
        """As the command line says; a mirror is a map of Docker Hub."""
        instead: dict[str, list[str]] = defaultdict(list)
        for entry in ";".join(options.all("registry-map")).split(";"):
            source, equals, target = entry.partition("=")
            if equals:
                instead[DOCKER_HUB if source in HUB_NAMES else source].append(target)
        instead[DOCKER_HUB] += options.all("registry-mirror")
        plain = frozenset(options.all("insecure-registry"))
        return cls(instead, plain | set(addresses) if options.on("insecure-pull") else plain, addresses)


async def check(reference: str, registries: Registries) -> None:
    """Ask for an image's manifest.

    Raises:
        RegistryError: a registry that the world knows does not have it.
    """
    host, name, tag = split(reference)
    for place in [*registries.instead.get(host, []), host]:
        registry, _, prefix = place.partition("/")
        if registry not in registries.addresses:
            if place == host:
                return
            continue
        path = f"/v2/{prefix + '/' if prefix else ''}{name}/manifests/{tag}"
        problem = await _problem(registry, path, registries)
        if not problem:
            return
    raise RegistryError(f"unable to retrieve image {reference}: {problem}")


async def _problem(registry: str, path: str, registries: Registries) -> str:
    """Why a registry does not give a manifest; empty if it does."""
    scheme = "http" if registry in registries.plain else "https"
    url = f"{scheme}://{registries.addresses[registry]}{path}"
    told = f"GET {scheme}://{registry}{path}"
    try:
        async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": ACCEPT}) as answer:
            if answer.ok:
                return ""
            first = (await answer.json(content_type=None))["errors"][0]
            return f"{told}: {first['code']}: {first['message']}"
    except aiohttp.ClientConnectorSSLError:
        return f"{told}: http: server gave HTTP response to HTTPS client"
    except aiohttp.ClientError as error:
        return f"{told}: dial tcp: {error}"


def split(reference: str) -> tuple[str, str, str]:
    """Registry, name, and tag or digest; without a registry it is Docker Hub's."""
    first, slash, rest = reference.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if named else (DOCKER_HUB, reference)
    if "@" in path:
        name, _, tag = path.partition("@")
    else:
        name, _, tag = path.partition(":")
    if host in HUB_NAMES:
        host, name = DOCKER_HUB, name if "/" in name else f"library/{name}"
    return host, name, tag or "latest"
