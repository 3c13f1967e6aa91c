"""Which platform the settings choose. Only that one's clients are loaded: each costs memory and time to start."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from provider.platforms.base import Platform
from provider.settings import Settings


async def open_platform(
    settings: Settings, http: httpx.AsyncClient, restarted: Callable[[str], None] | None = None
) -> Platform:
    """The platform of `settings.platform`, connected as far as it needs to be before `start`.

    Args:
        settings: `platform` is `container` or `kubernetes`.
        http: for the registry, and what else speaks plain HTTP.
        restarted: told the name of each watch of the platform's that broke and begins anew.

    Raises:
        Permanent: `platform_unreachable`, where the platform is not configured.
    """
    if settings.platform == "kubernetes":
        from provider.platforms.kubernetes.platform import KubernetesPlatform

        return await KubernetesPlatform.connect(settings=settings, http=http, restarted=restarted)
    from provider.platforms.container.platform import ContainerPlatform

    return ContainerPlatform(settings=settings, http=http, restarted=restarted)
