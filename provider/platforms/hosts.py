"""Whose is a host? One right below the domain is the preview's of that name; another is whoever has it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from provider import names
from provider.errors import Code, Permanent
from provider.settings import Settings


def is_below(host: str, domain: str) -> bool:
    """Whether the domain's wildcard covers the host."""
    return host.partition(".")[2] == domain


def check_reserved(aliases: Iterable[str], settings: Settings, slug: str) -> None:
    """Refuse aliases that are nobody's to have: below the previews' domain, or a host of the platform or below one.

    Raises:
        Permanent: `invalid_request`, naming every one.
    """
    own, reserved = names.host(slug, settings.preview_domain), sorted(_reserved(settings))
    found = [
        f"alias_hosts: {alias} is {'' if alias == one else 'below '}{one}, which is the platform's own"
        for alias in sorted(set(aliases) - {own})
        for one in reserved
        if (alias == one or alias.endswith(f".{one}")) and not is_below(alias, settings.preview_domain)
    ]
    if found:
        raise Permanent(
            Code.INVALID_REQUEST,
            "; ".join(found),
            reason="HostReserved",
            hint="Take these hosts out of alias_hosts.",
            evidence=tuple(found),
        )


def _reserved(settings: Settings) -> set[str]:
    """The previews' domain, and the hosts of what the settings name; not addresses, which no alias can be."""
    urls = (settings.api_url, settings.git_base_url, settings.share_base_url, settings.caddy_admin_url)
    places = (settings.registry_address, settings.registry_pull_address, settings.ingress_address)
    texts = [*urls, *settings.nats_url.split(","), *places]
    hosts = {urlsplit(text.strip() if "//" in text else f"//{text.strip()}").hostname or "" for text in texts}
    return ({settings.preview_domain, *settings.platform_hosts} | hosts) - {"", "localhost"}


def check(slug: str, hosts: Iterable[str], domain: str, taken: Collection[str] = ()) -> None:
    """Refuse hosts that are not the preview's to have.

    Args:
        slug: the preview.
        hosts: by what it shall be reached.
        domain: the wildcard domain of the previews.
        taken: hosts that other previews have.

    Raises:
        Permanent: `invalid_request`, naming the first one.
    """
    for host in sorted(set(hosts) - {names.host(slug, domain)}):
        if is_below(host, domain):
            why = "is reserved for the preview of that name"
        elif host in taken:
            why = "is another preview's"
        else:
            continue
        raise Permanent(
            Code.INVALID_REQUEST,
            f"The host {host} {why}.",
            reason="HostTaken",
            hint=f"Take {host} out of alias_hosts.",
        )
