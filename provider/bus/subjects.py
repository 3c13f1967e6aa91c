"""Every subject string, in one place (contract.md, "Subjects")."""

from __future__ import annotations

from dataclasses import dataclass

QUEUE_GROUP = "preview-provisioners"
AUDIT = "x1.audit.preview"
UNKNOWN_SLUG = "_"
QUEUE = "queue"
"""What requests from the work queue are called where endpoints are told apart."""

ENDPOINTS = (
    "provision",
    "teardown",
    "validate",
    "status",
    "list",
    "wait",
    "cancel",
    "touch",
    "claim",
    "release",
    "attach",
    "introspect",
    "approve",
    "reject",
)
"""Request subjects that this provider answers."""

UNSUPPORTED = ("sync", "debug")
"""Request subjects of the contract that answer `unsupported_feature` for now."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The subjects below one prefix."""

    prefix: str

    def request(self, name: str) -> str:
        """Where requests of that kind go."""
        return f"{self.prefix}.{name}"

    def events(self, slug: str | None) -> str:
        """Where a preview's events go; `_` stands for a slug that is not known yet."""
        return f"{self.prefix}.events.{slug or UNKNOWN_SLUG}"

    @property
    def all_events(self) -> str:
        """Every event of this installation."""
        return f"{self.prefix}.events.>"

    @property
    def queue(self) -> str:
        """Where provisions are queued."""
        return f"{self.prefix}.{QUEUE}"

    @property
    def queue_stream(self) -> str:
        """The JetStream stream that keeps queued provisions."""
        return f"{self.bucket_prefix}_queue"

    @property
    def bucket_prefix(self) -> str:
        """The prefix as the names of streams and KV buckets allow it."""
        return self.prefix.replace(".", "_")

    @property
    def logs_bucket(self) -> str:
        """The object store that keeps the logs of builds."""
        return f"{self.bucket_prefix}_logs"

    @property
    def events_stream(self) -> str:
        """The JetStream stream that keeps events."""
        return f"{self.bucket_prefix}_events"


def session_input(session_id: str) -> str:
    """How a session is told something (platform)."""
    return f"x1.session.{session_id}.input"
