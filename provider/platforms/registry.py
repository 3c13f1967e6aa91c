"""What the image registry holds, asked by the OCI distribution API."""

from __future__ import annotations

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
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


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
        while True:
            answer = await self._ask("GET", f"/v2/_catalog?n={PAGE}&last={quote(last, safe='')}")
            names: list[str] = (answer.json().get("repositories") or []) if answer.is_success else []
            found |= {name.removeprefix(PREVIEWS) for name in names if name.startswith(PREVIEWS)}
            if len(names) < PAGE:
                return found
            last = names[-1]

    async def tags(self, slug: str) -> list[str]:
        """The tags of a preview's repository."""
        answer = await self._ask("GET", f"/v2/{PREVIEWS}{slug}/tags/list")
        return list(answer.json().get("tags") or []) if answer.is_success else []

    async def digest(self, slug: str, tag: str) -> str | None:
        """The digest that a tag names, if there is one."""
        answer = await self._ask("HEAD", f"/v2/{PREVIEWS}{slug}/manifests/{tag}")
        return answer.headers.get("Docker-Content-Digest") if answer.is_success else None

    async def image(self, slug: str, digest: str) -> Image:
        """What that image says of itself; nothing where it is not one image."""
        manifest = await self._json(f"/v2/{PREVIEWS}{slug}/manifests/{digest}")
        config = manifest.get("config", {}).get("digest")
        told = await self._json(f"/v2/{PREVIEWS}{slug}/blobs/{config}") if config else {}
        labels = (told.get("config") or {}).get("Labels") or {}
        return Image(digest, str(told.get("created") or ""), labels)

    async def delete(self, slug: str, digest: str) -> bool:
        """Delete an image with all its tags; False where the registry does not do such a thing."""
        answer = await self._ask("DELETE", f"/v2/{PREVIEWS}{slug}/manifests/{digest}")
        if answer.is_success or answer.status_code == httpx.codes.NOT_FOUND:
            return True
        if answer.status_code in NO_DELETION:
            return False
        raise _unreachable(f"DELETE manifest answered {answer.status_code}")

    async def _json(self, path: str) -> dict[str, Any]:
        answer = await self._ask("GET", path)
        return dict(answer.json()) if answer.is_success else {}

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
        try:
            return await self._http.request(
                method,
                self._base + path,
                headers={"Accept": MANIFESTS},
                auth=self._auth,
                timeout=TIMEOUT,
                follow_redirects=True,
            )
        except CredentialsUnreadable as error:
            raise _refused(str(error)) from None
        except httpx.HTTPError as error:
            raise _unreachable(repr(error)) from error


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
