"""What the stand-in's own store saw: builds and generations, with no word from a provider."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from provider import render

Json = dict[str, Any]
Key = tuple[str, str]

GENERATION = render.PREFIX + "generation"
APPLIED = ("ConfigMap", "NetworkPolicy", "Service", "Deployment", "Ingress")


@dataclass
class Ledger:
    """Follows the store from the beginning.

    Attributes:
        good: when builds of these inputs ended well, by slug and build inputs.
        rebuilt: builds that began although one had ended well, as (key, moment of the first's end, of its begin).
        stale: objects that were written by an older generation than stood there.
    """

    good: defaultdict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    rebuilt: list[tuple[Key, float, float]] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    builds: int = 0
    _ended: set[str] = field(default_factory=set)
    _newest: dict[str, tuple[int, str]] = field(default_factory=dict)

    def notice(self, event: str, found: Json) -> None:
        """One commit of the store."""
        if found["kind"] == "Job":
            self._job(event, found)
        elif found["kind"] in APPLIED and event != "DELETED":
            self._object(found)

    def _job(self, event: str, job: Json) -> None:
        metadata = job["metadata"]
        slug = metadata.get("labels", {}).get(render.PREFIX + "slug", "")
        key = (slug, metadata.get("annotations", {}).get(render.PREFIX + "build-inputs", ""))
        if event == "ADDED":
            self.builds += 1
            if self.good[key]:
                self.rebuilt.append((key, self.good[key][-1], time.monotonic()))
        elif job.get("status", {}).get("succeeded") and metadata["uid"] not in self._ended:
            self._ended.add(metadata["uid"])
            self.good[key].append(time.monotonic())

    def _object(self, found: Json) -> None:
        metadata = found["metadata"]
        generation = int(metadata.get("annotations", {}).get(GENERATION, 0))
        before, _ = self._newest.get(metadata["uid"], (0, ""))
        title = f"{found['kind']}/{metadata['name']}"
        if generation and generation < before:
            self.stale.append(f"{title}: {generation} over {before}")
        self._newest[metadata["uid"]] = (max(before, generation), title)
