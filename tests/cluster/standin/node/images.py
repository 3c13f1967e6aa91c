"""The images of the node: pulled from a real registry where the world knows one, else taken for granted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp

from tests.cluster.standin.clock import Clock

Object = dict[str, Any]
PULL = 0.05
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class NotPulled(Exception):
    """An image could not be pulled, in containerd's words."""


class Say(Protocol):
    """Writes an event about a container."""

    def __call__(self, reason: str, message: str, *, warn: bool = False) -> None:
        """One event."""


class Images:
    """What the node has.

    Args:
        registries: by the name in an image's reference, where that registry really is (host:port, plain HTTP).
            Images of other registries exist, all of them.
    """

    def __init__(self, clock: Clock, registries: Mapping[str, str]) -> None:
        self._clock = clock
        self._registries = registries
        self._present: set[str] = set()

    async def pull(self, container: Object, scripted: str, say: Say) -> str:
        """Make the container's image present; its id.

        Raises:
            NotPulled: it can't be.
        """
        image, policy = container["image"], container.get("imagePullPolicy", "IfNotPresent")
        if image in self._present and policy != "Always" and not scripted:
            say("Pulled", f'Container image "{image}" already present on machine and can be accessed by the pod')
            return _image_id(image)
        if policy == "Never":
            raise NotPulled(f'Container image "{image}" is not present with pull policy of Never')
        say("Pulling", f'Pulling image "{image}"')
        await self._clock.sleep(PULL)
        if error := scripted or await self._missing(image):
            raise NotPulled(error)
        self._present.add(image)
        say("Pulled", f'Successfully pulled image "{image}" in 50ms (50ms including waiting). Image size: 1024 bytes.')
        return _image_id(image)

    async def _missing(self, image: str) -> str:
        """Why the registry does not give it; empty if it does, or if nobody knows the registry."""
        host, _, rest = image.partition("/")
        if host not in self._registries:
            return ""
        name, reference = _split(rest)
        url = f"http://{self._registries[host]}/v2/{name}/manifests/{reference}"
        try:
            async with aiohttp.ClientSession() as session, session.head(url, headers={"Accept": MANIFESTS}) as answer:
                if answer.ok:
                    return ""
                return not_found(image) if answer.status == 404 else _refused(image, url, f"{answer.status}")
        except aiohttp.ClientError:
            return _refused(image, url, f"dial tcp: connect to {host}: connection refused")


def not_found(image: str) -> str:
    """Containerd's words for an image that is not there."""
    where = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'
    return f"rpc error: code = NotFound desc = {where}: {image}: not found"


def _refused(image: str, url: str, why: str) -> str:
    where = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'
    return f'rpc error: code = Unknown desc = {where}: failed to do request: Head "{url}": {why}'


def _split(rest: str) -> tuple[str, str]:
    if "@" in rest:
        name, _, digest = rest.partition("@")
        return name.partition(":")[0], digest
    name, _, tag = rest.partition(":")
    return name, tag or "latest"


def _image_id(image: str) -> str:
    if found := re.search(r"sha256:[0-9a-f]{64}$", image):
        return f"{image.partition('@')[0]}@{found[0]}"
    return f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def shown(image: str, image_id: str) -> str:
    """What a status calls the image: containerd gives one that came by digest its configuration's digest for a name."""
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}" if image_id and "@" in image else image
