"""What the cluster lets the provider do, asked of the cluster itself, for `doctor`."""

from __future__ import annotations

import asyncio

from provider.errors import PreviewError
from provider.platforms.base import PartStatus
from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.refusals import Refused
from provider.platforms.kubernetes.resources import ALL, Resource

HINT = "Apply manifests/base, or add the verb to the provider's Role in that namespace."
AT_ONCE = 10


async def api_part(api: Api) -> PartStatus:
    """Whether the API server answers us."""
    try:
        return PartStatus("kubernetes", True, f"API server {await api.version()}")
    except Refused as error:
        return PartStatus("kubernetes", False, str(error), "Check the provider's credentials for the cluster.")
    except PreviewError as error:
        return PartStatus("kubernetes", False, "; ".join((error.message, *error.evidence)), error.hint or "")


async def permissions(api: Api) -> list[PartStatus]:
    """One line for each resource of the table, asked verb by verb (SelfSubjectAccessReview)."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def missing(resource: Resource, verb: str) -> str | None:
        async with slots:
            return None if await api.may(resource, verb) else verb

    async def line(resource: Resource) -> PartStatus:
        name = f"{resource.plural} in {api.namespace(resource)}"
        try:
            asked = await asyncio.gather(*(missing(resource, verb) for verb in resource.verbs))
        except (Refused, PreviewError) as error:
            return PartStatus(name, False, str(error), "The API server has to answer first.")
        lacking = [verb for verb in asked if verb is not None]
        detail = f"may not {', '.join(lacking)}" if lacking else f"may {', '.join(resource.verbs)}"
        return PartStatus(name, not lacking, detail, HINT if lacking else "")

    return list(await asyncio.gather(*map(line, ALL)))
