"""Read-only pages over the store, kept true while they are looked at, and what URLs show that serve no app."""

from provider.dashboard.dashboard import Dashboard
from provider.dashboard.holding import Holding

__all__ = ["Dashboard", "Holding"]
