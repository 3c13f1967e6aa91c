"""What the image registry holds, asked by the OCI distribution API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.platforms.base import PartStatus
from provider.platforms.registry_auth import CredentialsUnreadable, RegistryAuth
from provider.settings import Settings

TIMEOUT = 5.0
WHOLE_SECONDS = 10.0
"""For one question, redirects and the answer's last byte among it; `TIMEOUT` is for each step of that."""
MOST_BYTES = 8 << 20
"""Of one answer; a page of the catalogue has a tenth of that."""
MOST_PAGES = 1000
MOST_REDIRECTS = 5
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


DIGEST = re.compile(r"[a-z0-9+._-]{1,32}:[A-Za-z0-9=_-]{1,200}")
PREVIEWS = "previews/"
PAGE = 1000
"""More at once is refused by some registries (distribution 2.8)."""
REFUSED = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
REFUSED_HINT = "Check the credentials for REGISTRY_ADDRESS in REGISTRY_AUTH_FILE."
NO_DELETION = {httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.FORBIDDEN, httpx.codes.UNAUTHORIZED, httpx.codes.BAD_REQUEST}


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says of itself; `created` as in its configuration, "" where that says nothing."""

    digest: str
    created: str
    labels: Mapping[str, str]


class Registry:
    """One registry."""

    def __init__(self, *, settings: Settings, http: httpx.AsyncClient) -> None:
        scheme = "http" if settings.registry_insecure else "https"
        self._base = f"{scheme}://{settings.registry_address}"
        self._http = http
        self._auth = RegistryAuth(settings.registry_auth_file, settings.registry_address)

    async def has(self, slug: str, digest: str) -> bool:
        """Whether the preview's repository still has that manifest.

        Raises:
            Temporary: `registry_unreachable`.
        """
        answer = await self._ask("HEAD", f"/v2/{PREVIEWS}{slug}/manifests/{digest}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        if answer.is_success:
            return True
        if answer.status_code in REFUSED:
            raise _refused(f"HEAD manifest answered {answer.status_code}")
        raise _unreachable(f"HEAD manifest answered {answer.status_code}")

    async def slugs(self) -> set[str]:
        """The previews that it has a repository for; none where it does not tell."""
        found: set[str] = set()
        last = ""
        for _ in range(MOST_PAGES):
            told = await self._json(f"/v2/_catalog?n={PAGE}&last={quote(last, safe='')}")
            names = _texts(told.get("repositories"))
            found |= {name.removeprefix(PREVIEWS) for name in names if name.startswith(PREVIEWS)}
            if len(names) < PAGE or names[-1] == last:  # else one that gives the same page again is asked for ever
                break
            last = names[-1]
        return found

    async def tags(self, slug: str) -> list[str]:
        """The tags of a preview's repository."""
        return _texts((await self._json(f"/v2/{PREVIEWS}{slug}/tags/list")).get("tags"))

    async def digest(self, slug: str, tag: str) -> str | None:
        """The digest that a tag names, if there is one."""
        answer = await self._ask("HEAD", f"/v2/{PREVIEWS}{slug}/manifests/{tag}")
        return answer.headers.get("Docker-Content-Digest") if answer.is_success else None

    async def image(self, slug: str, digest: str) -> Image:
        """What that image says of itself; nothing where it is not one image."""
        manifest = await self._json(f"/v2/{PREVIEWS}{slug}/manifests/{digest}")
        config = str(_mapping(manifest.get("config")).get("digest"))
        told = await self._json(f"/v2/{PREVIEWS}{slug}/blobs/{config}") if DIGEST.fullmatch(config) else {}
        labels = _mapping(_mapping(told.get("config")).get("Labels"))
        return Image(digest, str(told.get("created") or ""), {name: str(value) for name, value in labels.items()})

    async def delete(self, slug: str, digest: str) -> bool:
        """Delete an image with all its tags; False where the registry does not do such a thing."""
        answer = await self._ask("DELETE", f"/v2/{PREVIEWS}{slug}/manifests/{digest}")
        if answer.is_success or answer.status_code == httpx.codes.NOT_FOUND:
            return True
        if answer.status_code in NO_DELETION:
            return False
        raise _unreachable(f"DELETE manifest answered {answer.status_code}")

    async def _json(self, path: str) -> dict[str, Any]:
        """The JSON object that is answered; empty where there is none. Raises `registry_unreachable` for other text."""
        answer = await self._ask("GET", path)
        try:
            return _mapping(json.loads(answer.content)) if answer.is_success else {}
        except (ValueError, RecursionError):
            raise _unreachable(f"GET {path.partition('?')[0]} answered {answer.status_code} with no JSON") from None

    async def part(self) -> PartStatus:
        """Whether the registry answers its API's root."""
        try:
            answer = await self._ask("GET", "/v2/")
        except PreviewError as error:
            return PartStatus("registry", False, "; ".join((error.message, *error.evidence)), error.hint or "")
        ok, refused = answer.is_success, answer.status_code in REFUSED
        hint = "" if ok else REFUSED_HINT if refused else "See its log."
        return PartStatus("registry", ok, f"{self._base} answered {answer.status_code}", hint)

    async def _ask(self, method: str, path: str) -> httpx.Response:
        request = self._http.build_request(method, self._base + path, headers={"Accept": MANIFESTS}, timeout=TIMEOUT)
        flow = self._auth.auth_flow(request)
        request = next(flow)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                while True:
                    answer = await self._answer(request)
                    try:
                        request = flow.send(answer)
                    except StopIteration:
                        return answer
        except CredentialsUnreadable as error:
            raise _refused(str(error)) from None
        except TimeoutError:
            raise _unreachable(f"{method} took more than {WHOLE_SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(repr(error)[:500]) from error

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """What is answered at the end of redirects. The client would read each of these whole, however long it is."""
        for _ in range(MOST_REDIRECTS):
            streamed = await self._http.send(request, stream=True, follow_redirects=False)
            try:
                answer, after = await _whole(streamed), streamed.next_request
            finally:
                await streamed.aclose()
            if after is None:
                return answer
            request = after
        raise httpx.TooManyRedirects("too many redirects", request=request)


async def _whole(streamed: httpx.Response) -> httpx.Response:
    """The same answer, read to its end.

    Raises:
        httpx.RemoteProtocolError: it has more than MOST_BYTES, unpacked.
    """
    body = bytearray()
    async for piece in streamed.aiter_bytes(1 << 16):
        body += piece
        if len(body) > MOST_BYTES:
            raise httpx.RemoteProtocolError(f"an answer of more than {MOST_BYTES} bytes")
    headers = [one for one in streamed.headers.multi_items() if one[0] != "content-encoding"]
    return httpx.Response(streamed.status_code, headers=headers, content=bytes(body), request=streamed.request)


def _mapping(value: object) -> dict[str, Any]:
    """The value, if it is an object of JSON."""
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    """The texts of a list of JSON."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _refused(evidence: str) -> Permanent:
    return Permanent(
        Code.REGISTRY_UNREACHABLE,
        "The image registry does not let the provider in.",
        reason="CredentialsRefused",
        hint=REFUSED_HINT,
        evidence=(evidence,),
        retryable=False,
    )


def _unreachable(evidence: str) -> Temporary:
    return Temporary(
        Code.REGISTRY_UNREACHABLE,
        "The image registry did not answer.",
        reason="Unreachable",
        hint="Check the registry at REGISTRY_ADDRESS.",
        evidence=(evidence,),
    )
