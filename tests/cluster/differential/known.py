"""The differences that we accept, each with its reason; one that no longer shows is reported, to keep the list short."""

from __future__ import annotations

from tests.cluster.differential.compare import Known

KNOWN: tuple[Known, ...] = ()
