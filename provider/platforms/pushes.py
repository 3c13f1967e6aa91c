"""A push that a registry refuses for good, in the words of Podman and of Kaniko: to build again would not help."""

from __future__ import annotations

import re

from provider.errors import Code, Permanent

_REFUSED = re.compile(
    r"unauthorized|authentication required|\bdenied\b|insufficient_scope|forbidden|name_invalid|name_unknown"
    r"|size_invalid|invalid repository name|too large|unsupported|method not allowed"
    r"|status(?: code)?:? (?:401|403|405|413)\b",
    re.IGNORECASE,
)


def is_refusal(words: str) -> bool:
    """Whether a registry's words about a push mean that it will never take it, however often it is tried."""
    return _REFUSED.search(words) is not None


def refused(words: str, log_tail: tuple[str, ...]) -> Permanent:
    """The answer to a deploy whose image the registry does not take."""
    return Permanent(
        Code.REGISTRY_UNREACHABLE,
        f"The image was built, but the registry refused it: {words}",
        reason="PushRefused",
        hint="Check that the registry at REGISTRY_ADDRESS lets builds push to previews/, and what it says of size.",
        evidence=(words,),
        log_tail=log_tail,
        retryable=False,
    )
