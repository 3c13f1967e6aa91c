"""Whose is a host? One right below the domain is the preview's of that name; another is whoever has it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from provider import names
from provider.errors import Code, Permanent


def is_below(host: str, domain: str) -> bool:
    """Whether the domain's wildcard covers the host."""
    return host.partition(".")[2] == domain


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
