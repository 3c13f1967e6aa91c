"""Counters over what the API server was asked: budgets and permissions are asserted on them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple


class Call(NamedTuple):
    """One kind of request, as it is counted."""

    verb: str
    resource: str
    subresource: str
    user: str


class Permission(NamedTuple):
    """One permission that was used; a subresource stands behind a slash."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str


@dataclass
class Metrics:
    """`requests` and `used` count authorised requests; `connections` all that were accepted.

    `answering` has the seconds from a request's head to its answer, by user; of watches and logs there are none.
    """

    requests: Counter[Call] = field(default_factory=Counter)
    answering: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    used: set[Permission] = field(default_factory=set)
    refused: Counter[Permission] = field(default_factory=Counter)
    connections: int = 0
    watches: int = 0
    most_watches: int = 0

    def total(self, user: str | None = None) -> int:
        """Requests of a user, or of all."""
        return sum(number for call, number in self.requests.items() if user in (None, call.user))

    def watch_opened(self) -> None:
        self.watches += 1
        self.most_watches = max(self.most_watches, self.watches)

    def watch_closed(self) -> None:
        self.watches -= 1

    def reset(self) -> None:
        """Starts to count anew; open watches stay counted."""
        self.requests.clear()
        self.answering.clear()
        self.used.clear()
        self.refused.clear()
        self.connections = 0
        self.most_watches = self.watches
