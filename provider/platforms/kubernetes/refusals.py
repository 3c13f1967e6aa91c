"""What the API server refuses, and what that means to callers.

`Refused` and `Expired` never leave this package: who asked judges them, or makes them one of `errors`.
"""

from __future__ import annotations

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose


class Refused(Exception):
    """The API server's own answer, as it stands in a Status object; never leaves this package."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class Expired(Exception):
    """The version to watch from is too old: list again."""


def unreachable(evidence: str, delay: float | None = None) -> Temporary:
    """The API server did not answer as one."""
    return Temporary(
        Code.PLATFORM_UNREACHABLE,
        "The Kubernetes API did not answer.",
        reason="Unreachable",
        hint="Check the API server, and the network between it and the provider.",
        evidence=(evidence[:500],),
        delay=delay,
    )


def refused(error: Refused, what: str) -> PreviewError:
    """A refusal that nobody expected, as an error that callers may see."""
    if error.code in {401, 403} and "is forbidden: User" in error.message:
        return Permanent(
            Code.PLATFORM_UNREACHABLE,
            f"The provider may not do that in the cluster: {what}.",
            reason="Forbidden",
            hint="Apply manifests/base: its Roles allow it. `preview doctor` lists everything that is missing.",
            evidence=(error.message,),
            whose=Whose.PLATFORM,
            retryable=False,
        )
    if error.code == 409:
        return Temporary(
            Code.PLATFORM_UNREACHABLE, f"Somebody else changed it at once: {what}.", reason="Conflict",
            evidence=(error.message,),
        )  # fmt: skip
    return Permanent(
        Code.PLATFORM_UNREACHABLE,
        f"The cluster refused {what}: {error.message[:300]}",
        reason=error.reason or "Refused",
        hint="The message is the cluster's own; its operator can say more.",
        evidence=(str(error),),
        whose=Whose.PLATFORM,
        retryable=False,
    )


def not_taken(error: Refused, what: str) -> PreviewError:
    """Why the cluster did not take an object: quota and policies have codes of their own."""
    if "exceeded quota" in error.message:
        return Permanent(
            Code.QUOTA_EXCEEDED,
            f"The namespace's quota does not allow {what}.",
            reason="QuotaExceeded",
            hint="Tear down a preview that is not needed, ask for less in spec.resources, or raise the quota.",
            evidence=(error.message,),
        )
    denied = error.code == 403 and "is forbidden: User" not in error.message
    if denied or "admission webhook" in error.message or "violates PodSecurity" in error.message:
        return Permanent(
            Code.POLICY_DENIED,
            f"A policy of the cluster does not allow {what}.",
            reason=error.reason or "Forbidden",
            hint="The evidence holds the policy's own words: change what it names, or ask the cluster's operator.",
            evidence=(error.message,),
        )
    return refused(error, what)
