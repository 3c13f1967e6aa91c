"""The differences that we accept, each with its reason; one that shows no longer is reported, so that it goes."""

from __future__ import annotations

from tests.cluster.differential.compare import Known

KNOWN: tuple[Known, ...] = ()
