"""Pushing over the OCI distribution API, refused in the words of Kaniko's registry client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from tests.cluster.standin.kaniko.image import MANIFEST, Image, digest_of

BAD = 400


class RegistryError(Exception):
    """The registry refused or did not answer, in Kaniko's words."""


@dataclass(frozen=True)
class Destination:
    """`host/name:tag`; `address` is where that host really is."""

    host: str
    name: str
    tag: str
    address: str
    plain_http: bool

    @property
    def url(self) -> str:
        """The base of its repository's API."""
        return f"{'http' if self.plain_http else 'https'}://{self.address}/v2/{self.name}"

    def __str__(self) -> str:
        return f"{self.host}/{self.name}:{self.tag}"


def parse(reference: str, registries: Mapping[str, str], *, insecure: bool) -> Destination:
    """Read a `--destination`."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.partition(":")
    return Destination(host, name, tag or "latest", registries.get(host, host), insecure)


async def check_push(destination: Destination) -> None:
    """Begin an upload and forget it, as Kaniko does before it builds.

    Raises:
        RegistryError: it can't be pushed there.
    """
    scheme = "http" if destination.plain_http else "https"
    ping = f"{scheme}://{destination.host}/v2/"
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{destination.url}/blobs/uploads/") as begun:
                await _checked(begun, f"POST {destination.url}/blobs/uploads/")
            async with session.delete(URL(begun.headers["Location"], encoded=True)):
                pass
    except aiohttp.ClientConnectorSSLError as error:
        why = f'Get "{ping}": http: server gave HTTP response to HTTPS client'
        raise RegistryError(f"creating push check transport for {destination.host} failed: {why}") from error
    except aiohttp.ClientError as error:
        why = f'Get "{ping}": dial tcp: {error}'
        raise RegistryError(f"creating push check transport for {destination.host} failed: {why}") from error


async def push(destination: Destination, image: Image) -> None:
    """Push blobs, then the manifest by its tag.

    Raises:
        RegistryError: something was refused.
    """
    try:
        async with aiohttp.ClientSession() as session:
            for blob in image.blobs:
                await _push_blob(session, destination, blob)
            url = f"{destination.url}/manifests/{destination.tag}"
            async with session.put(url, data=image.manifest, headers={"Content-Type": MANIFEST}) as answer:
                await _checked(answer, f"PUT {url}")
    except aiohttp.ClientError as error:
        raise RegistryError(str(error)) from error


async def _push_blob(session: aiohttp.ClientSession, destination: Destination, blob: bytes) -> None:
    digest = digest_of(blob)
    async with session.head(f"{destination.url}/blobs/{digest}") as known:
        if known.ok:
            return
    async with session.post(f"{destination.url}/blobs/uploads/") as begun:
        await _checked(begun, f"POST {destination.url}/blobs/uploads/")
    place = URL(begun.headers["Location"], encoded=True).update_query(digest=digest)
    async with session.put(place, data=blob) as done:
        await _checked(done, f"PUT {place}")


async def _checked(answer: aiohttp.ClientResponse, what: str) -> None:
    if answer.status >= BAD:
        text = (await answer.text()).strip()
        raise RegistryError(f"{what}: unexpected status code {answer.status} {answer.reason}: {text}")
