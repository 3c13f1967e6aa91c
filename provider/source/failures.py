"""What goes wrong on our side of a fetch: this machine, the cache, a tree that cannot be used."""

from __future__ import annotations

from provider.errors import Code, Permanent, Temporary, Whose


def unusable(reason: str, message: str, evidence: tuple[str, ...] = ()) -> Permanent:
    """The commit holds what cannot be written to a disk of this machine."""
    return Permanent(
        Code.REPO_UNREACHABLE,
        message,
        reason=reason,
        evidence=evidence,
        whose=Whose.USER,
        retryable=False,
        hint="rename what the evidence names, and commit that: git refuses such paths",
    )


def machine(error: OSError) -> Temporary:
    """Git is not installed, no process can be started, the state folder cannot be written."""
    return Temporary(
        Code.REPO_UNREACHABLE,
        f"git could not be used on this machine: {error}",
        reason="GitUnusable",
        hint="check git, and the disk of STATE_DIR, on the provider's machine (`preview doctor`)",
    )


def lost(repo: str, sha: str, what: str, evidence: tuple[str, ...] = ()) -> Temporary:
    """The cache does not hold what it should."""
    return Temporary(
        Code.REPO_UNREACHABLE,
        f"{repo} at {sha[:12]} {what}",
        reason="CacheLost",
        hint="resolve the commit again",
        evidence=evidence,
    )
