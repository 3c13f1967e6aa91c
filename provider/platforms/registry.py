"""What the image registry holds, asked by the OCI distribution API."""

from __future__ import annotations

import httpx

from provider.errors import Code, PreviewError, Temporary
from provider.platforms.base import PartStatus
from provider.settings import Settings

TIMEOUT = 5.0
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """One registry, read only."""

    def __init__(self, *, settings: Settings, http: httpx.AsyncClient) -> None:
        scheme = "http" if settings.registry_insecure else "https"
        self._base = f"{scheme}://{settings.registry_address}"
        self._http = http

    async def has(self, slug: str, digest: str) -> bool:
        """Whether the preview's repository still has that manifest.

        Raises:
            Temporary: `registry_unreachable`.
        """
        answer = await self._ask("HEAD", f"/v2/previews/{slug}/manifests/{digest}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        if answer.is_success:
            return True
        raise _unreachable(f"HEAD manifest answered {answer.status_code}")

    async def part(self) -> PartStatus:
        """Whether the registry answers its API's root."""
        try:
            answer = await self._ask("GET", "/v2/")
        except PreviewError as error:
            return PartStatus("registry", False, "; ".join((error.message, *error.evidence)), error.hint or "")
        ok = answer.is_success
        return PartStatus("registry", ok, f"{self._base} answered {answer.status_code}", "" if ok else "See its log.")

    async def _ask(self, method: str, path: str) -> httpx.Response:
        try:
            return await self._http.request(method, self._base + path, headers={"Accept": MANIFESTS}, timeout=TIMEOUT)
        except httpx.HTTPError as error:
            raise _unreachable(repr(error)) from error


def _unreachable(evidence: str) -> Temporary:
    return Temporary(
        Code.REGISTRY_UNREACHABLE,
        "The image registry did not answer.",
        reason="Unreachable",
        hint="Check the registry at REGISTRY_ADDRESS.",
        evidence=(evidence,),
    )
