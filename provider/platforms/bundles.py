"""What both platforms say of secret bundles."""

from __future__ import annotations

from provider.errors import Code, Permanent, Whose


def gone(name: str) -> Permanent:
    """A bundle that a record names is not there any more."""
    return Permanent(
        Code.SECRET_MISSING,
        f"The secret bundle {name} is gone: somebody deleted it.",
        reason="BundleLost",
        hint="Deploy again with the secrets: they are kept nowhere else.",
        evidence=(f"secret/{name} deleted",),
        whose=Whose.PLATFORM,
    )
