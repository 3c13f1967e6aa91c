"""What the API server refuses, and what that means to callers.

`Refused` and `Expired` never leave this package: who asked judges them, or makes them one of `errors`.
"""

from __future__ import annotations

from provider.diagnose import rollouts
from provider.diagnose.cluster import CLUSTER
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


def webhook_away(webhook: str, evidence: str) -> Temporary:
    """The API server did answer: who had to be asked by it did not."""
    return Temporary(
        Code.PLATFORM_UNREACHABLE,
        f"The cluster's admission webhook {webhook} did not answer.",
        reason="WebhookUnavailable",
        hint=f"Ask again; if it stays so, the cluster's operator has to look at what serves {webhook}.",
        evidence=(evidence[:500],),
    )


def refused(error: Refused, what: str) -> PreviewError:
    """A refusal that nobody expected, as an error that callers may see."""
    if error.code == 401:
        return Temporary(
            Code.PLATFORM_UNREACHABLE,
            f"The cluster does not take the provider's credentials: {what}.",
            reason="Unauthorized",
            hint="Renew the credentials: the token or login of KUBECONFIG, or the ServiceAccount of manifests/base.",
            evidence=(error.message,),
        )
    if error.code == 403 and "is forbidden: User" in error.message:
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
        hint="Ask again; if it stays so, somebody else changes what is in PREVIEW_NAMESPACE.")  # fmt: skip
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
    if CLUSTER.find([error.message]) is not None and "is forbidden: User" not in error.message:
        return rollouts.not_placed(error.reason or "Forbidden", f"{what}: {error.message}").error()
    denied = error.code == 403 and "is forbidden: User" not in error.message
    if denied:
        return Permanent(
            Code.POLICY_DENIED,
            f"A policy of the cluster does not allow {what}.",
            reason=error.reason or "Forbidden",
            hint="The evidence holds the policy's own words: change what it names, or ask the cluster's operator.",
            evidence=(error.message,),
        )
    return refused(error, what)
