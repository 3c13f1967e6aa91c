"""The container engine's API, behind one adapter: Podman's service, spoken to as Docker's API.

Every exception of the client becomes `Temporary` or `Permanent` (`engine_errors`). Two things go to Podman's own API
instead of Docker's: making networks (Docker's cannot switch off the engine's name server, which would
listen on each preview's gateway), and asking what the engine is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiodocker
import aiohttp
import httpx
import structlog

from provider.errors import Code, PreviewError, Temporary
from provider.http_client import http_client
from provider.platforms.base import PartStatus
from provider.platforms.container.engine_answers import BoundedResponse, frames, lines, whole
from provider.platforms.container.engine_errors import translated, understood, unpullable, unreachable

log = structlog.get_logger(__name__)

CALL_SECONDS = 60.0
NO_AUTH = {"username": "", "password": ""}
ENDINGS = ("died", "remove", "stop", "pause", "disconnect")
EVENTS_SINCE = "24h"
MOST_TAIL = 1 << 20
"""Bytes of a container's last words."""
LIBPOD = "http://engine/v4.0.0/libpod"
DOCKER = "v1.40"
"""Known to every Podman since 2.0. Asked for its own it takes half a second: dpkg searches for what it runs."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Something of a preview (None: perhaps of any) ended; `died`: its container's own process did."""

    slug: str | None
    container: str = ""
    died: bool = False


@dataclass(frozen=True, slots=True)
class _Event:
    """One of the engine's events: all of it, and the attributes of what it is about."""

    said: dict[str, Any]
    about: dict[str, str]


class Engine:
    """Containers, images and networks of one engine.

    Args:
        url: the service's address, `unix:///…`.
        slug_label: the label of containers that names their preview.
    """

    def __init__(self, url: str, slug_label: str = "") -> None:
        self._url = url
        self._slug_label = slug_label
        self._docker: aiodocker.Docker | None = None
        self._libpod = http_client(timeout=CALL_SECONDS, socket=url.removeprefix("unix://"))

    async def close(self) -> None:
        """Disconnect."""
        await self._libpod.aclose()
        if self._docker is not None:
            await self._docker.session.close()  # which is ours

    async def part(self) -> PartStatus:
        """Whether the engine answers."""
        try:
            info = await self._podman("GET", "/info")
            with understood("GET /info"):
                version, runtime = info["version"]["Version"], info["host"]["ociRuntime"]["name"]
        except PreviewError as error:
            return PartStatus("engine", False, str(error), error.hint or "")
        return PartStatus("engine", True, f"Podman {version} with {runtime} at {self._url}")

    async def container(self, name: str) -> dict[str, Any] | None:
        """What the engine says of a container, or None if there is none of that name."""
        with translated(f"inspect container {name}"):
            try:
                return dict(await (self._client().containers.container(name)).show())
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return None
                raise

    async def containers(self, **labels: str) -> list[dict[str, Any]]:
        """Every container, running or not, with these labels."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with translated("list containers"):
            found = await self._client().containers.list(all=True, filters=filters)
        return [dict(container._container) for container in found]

    async def create(self, name: str, config: dict[str, Any]) -> None:
        """Create a container."""
        with translated(f"create container {name}"):
            await self._client().containers.create(config, name=name)

    async def start(self, name: str) -> None:
        """Start a container; one that runs already is no error."""
        with translated(f"start container {name}"):
            await self._client().containers.container(name).start()

    async def stop(self, name: str, grace_seconds: int) -> None:
        """Stop a container; one that is gone or stopped is no error."""
        with translated(f"stop container {name}", gone_is_fine=True):
            await self._client().containers.container(name).stop(t=grace_seconds)

    async def restart(self, name: str, grace_seconds: int) -> None:
        """Restart a container."""
        with translated(f"restart container {name}"):
            await self._client().containers.container(name).restart(timeout=grace_seconds)

    async def remove(self, name: str) -> bool:
        """Remove a container with its anonymous volumes, running or not; whether it was there."""
        if await self.container(name) is None:
            return False
        with translated(f"remove container {name}", gone_is_fine=True):
            await self._client().containers.container(name).delete(force=True, v=True)
        return True

    async def log(self, name: str, count: int) -> tuple[str, ...]:
        """The last lines of a container's output; none if it is gone."""
        said = bytearray()
        async for data in self.log_stream(name, {"tail": str(count)}):
            said += data
            del said[:-MOST_TAIL]
        return tuple(said.decode(errors="replace").splitlines()[-count:])

    async def log_stream(self, name: str, params: dict[str, str]) -> AsyncIterator[bytes]:
        """A container's output, as long as `params` (`follow`, `tail`, `since`, `until`) say; none if it is gone."""
        timeout = httpx.Timeout(CALL_SECONDS, read=None)
        params = {"stdout": "true", "stderr": "true", **params}
        call = f"read the log of {name}"
        with translated(call):
            async with self._libpod.stream(
                "GET", f"{LIBPOD}/containers/{name}/logs", params=params, timeout=timeout
            ) as answer:
                if answer.status_code == 404:
                    return
                if answer.is_error:
                    raise unreachable(call, str(answer.status_code), answered=True)
                async for data in frames(answer):
                    yield data

    async def happened(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """What the engine remembers of containers with these labels, oldest first; nothing where it keeps no events."""
        filters = {"type": ["container"], "label": [f"{name}={value}" for name, value in labels.items()]}
        found = self._events(filters, stream="false", since=EVENTS_SINCE)
        # The engine gives what has any of the labels.
        return [one.said async for one in found if one is not None and labels.items() <= one.about.items()]

    async def exit_codes(self, name: str) -> list[int]:
        """The codes of all exits of a container, in order, by the engine's events; none where it keeps no events."""
        found = self._events({"container": [name], "event": ["died"]}, stream="false")
        died = [one.about async for one in found if one is not None and one.about.get("name") == name]
        with understood(f"list exits of {name}"):
            return [int(about["containerExitCode"]) for about in died]

    async def endings(self) -> AsyncIterator[Ending]:
        """What ends, stops or goes, from now on; the first tells that it is listened to from now on.

        Ends when the engine ends it, or keeps no events.
        """
        async for one in self._events({"event": list(ENDINGS)}, stream="true"):
            if one is None:
                yield Ending(None)
            elif (slug := one.about.get(self._slug_label)) or one.said.get("Type") == "network":
                yield Ending(slug, one.about.get("name", ""), one.said.get("Action") == "died")

    async def _events(self, filters: dict[str, list[str]], **params: str) -> AsyncIterator[_Event | None]:
        """The engine's events, after a None when it listens; nothing where it keeps none."""
        params = {**params, "filters": json.dumps(filters)}
        timeout = httpx.Timeout(CALL_SECONDS, read=None)
        with translated("read events"):
            async with self._libpod.stream("GET", f"{LIBPOD}/events", params=params, timeout=timeout) as answer:
                if answer.is_error:
                    return
                yield None
                async for said in lines(answer):
                    about = said["Actor"]["Attributes"]
                    yield _Event(said, {str(name): str(value) for name, value in about.items()})

    async def has_image(self, reference: str) -> bool:
        """Whether the engine holds that image."""
        with translated(f"inspect image {reference}"):
            try:
                await self._client().images.inspect(reference)
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return False
                raise
        return True

    async def exists(self, reference: str) -> bool:
        """Whether the engine holds that image, by the rules by which Podman itself finds images."""
        return await self._podman("GET", f"/images/{quote(reference, safe='')}/exists", absent=404) is not None

    async def image_id(self, reference: str) -> str | None:
        """An image's id, found by the rules by which Podman itself finds images; None if there is none."""
        found = await self._podman("GET", f"/images/{quote(reference, safe='')}/json", absent=404)
        with understood(f"inspect image {reference}"):
            return None if found is None else str(found["Id"])

    async def image_folder(self) -> Path:
        """Where the engine's storage keeps what it knows of images."""
        info = await self._podman("GET", "/info")
        with understood("GET /info"):
            return Path(info["store"]["graphRoot"]) / f"{info['store']['graphDriverName']}-images"

    async def tag(self, image_id: str, reference: str) -> None:
        """Give an image one more name."""
        repository, _, tag = reference.rpartition(":")
        await self._podman("POST", f"/images/{image_id}/tag", params={"repo": repository, "tag": tag})

    async def pull(self, reference: str) -> None:
        """Pull an image by its digest.

        Raises:
            Permanent: `image_unpullable` when the registry says that there is none.
        """
        with translated(f"pull {reference}"):
            try:
                await self._client().images.pull(reference, auth=NO_AUTH)
            except aiodocker.DockerError as error:
                text = str(error.message)
                if error.status == 404 or "manifest unknown" in text.lower():
                    raise unpullable(reference, text) from error
                raise Temporary(
                    Code.IMAGE_UNPULLABLE,
                    f"The image {reference} could not be pulled.",
                    evidence=(text[:300],),
                    reason="PullFailed",
                    hint="Check the registry at REGISTRY_ADDRESS.",
                ) from error
        if not await self.has_image(reference):  # the engine reports a failed pull inside a 200
            raise unpullable(reference, "the engine has no such image after pulling it")

    async def network(self, name: str) -> dict[str, Any] | None:
        """A network in Podman's words, or None."""
        found: dict[str, Any] | None = await self._podman("GET", f"/networks/{name}/json", absent=404)
        return found

    async def create_network(self, name: str, bridge: str, labels: dict[str, str]) -> dict[str, Any]:
        """A bridge that is cut off from every other isolated one; an existing one of that name is returned.

        Its interface is named by us: two engines of one machine may choose the same name by themselves.
        """
        if (present := await self.network(name)) is not None:
            return present
        body = {"name": name, "driver": "bridge", "dns_enabled": False, "labels": labels, "network_interface": bridge}
        made = await self._podman("POST", "/networks/create", body=body | {"options": {"isolate": "true"}}, absent=409)
        found = made or await self.network(name)
        if found is None:
            raise Temporary(
                Code.PLATFORM_UNREACHABLE,
                f"The network {name} vanished while it was made.",
                reason="NetworkGone",
                hint="Ask again; if it stays so, somebody else removes networks of the engine at CONTAINER_HOST.",
            )
        return found

    async def networks(self) -> frozenset[str]:
        """The names of all networks."""
        found = await self._podman("GET", "/networks/json")
        with understood("list networks"):
            return frozenset(str(one["name"]) for one in found)

    async def labelled_networks(self, **labels: str) -> list[tuple[str, str]]:
        """Name and preview of the networks with these labels."""
        found = await self._podman("GET", "/networks/json")
        with understood("list networks"):
            return [
                (str(one["name"]), str(one["labels"][self._slug_label]))
                for one in found
                if labels.items() <= (one.get("labels") or {}).items() and self._slug_label in one["labels"]
            ]

    async def remove_network(self, name: str) -> bool:
        """Remove a network; whether it was there."""
        return await self._podman("DELETE", f"/networks/{name}", absent=404) is not None

    def _client(self) -> aiodocker.Docker:
        if self._docker is None:  # wants a running loop
            timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
            connector = aiohttp.UnixConnector(self._url.removeprefix("unix://"))
            session = aiohttp.ClientSession(connector=connector, timeout=timeout, response_class=BoundedResponse)
            self._docker = aiodocker.Docker(
                url="unix://localhost", connector=connector, session=session, timeout=timeout, api_version=DOCKER
            )
        return self._docker

    async def _podman(
        self, method: str, path: str, *, absent: int = 0, body: object = None, params: dict[str, str] | None = None
    ) -> Any:
        with translated(f"{method} {path}"):
            async with self._libpod.stream(method, LIBPOD + path, json=body, params=params) as answer:
                data = await whole(answer)
            if answer.status_code == absent:
                return None
            if answer.is_error:
                raise unreachable(f"{method} {path}", f"{answer.status_code} {data[:300].decode(errors='replace')}")
            return json.loads(data) if data.strip() else {}
