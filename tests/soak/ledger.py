"""What the stand-in's own store saw: builds and generations, with no word from a provider."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from provider import render

Json = dict[str, Any]
Key = tuple[str, str]


@dataclass
class Good:
    """A build that ended well: when, for which deploy, and when its Job was deleted."""

    ended: float
    deploy_id: str
    deleted: float | None = None


GENERATION = render.PREFIX + "generation"
APPLIED = ("ConfigMap", "NetworkPolicy", "Service", "Deployment", "Ingress")


@dataclass
class Ledger:
    """Follows the store from the beginning.

    Attributes:
        good: the last build of these inputs that ended well, by slug and build inputs.
        rebuilt: builds that began although one had ended well, as (key, the earlier one, moment of its begin).
        stale: objects that were written by an older generation than stood there.
    """

    good: dict[Key, Good] = field(default_factory=dict)
    rebuilt: list[tuple[Key, Good, float]] = field(default_factory=list)
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
            if key in self.good:
                self.rebuilt.append((key, self.good[key], time.monotonic()))
        elif job.get("status", {}).get("succeeded") and metadata["uid"] not in self._ended:
            self._ended.add(metadata["uid"])
            deploy_id = metadata["annotations"].get(render.PREFIX + "deploy-id", "")
            self.good[key] = Good(time.monotonic(), deploy_id)
        if event == "DELETED" and metadata["uid"] in self._ended and key in self.good:
            self.good[key].deleted = time.monotonic()

    def _object(self, found: Json) -> None:
        metadata = found["metadata"]
        generation = int(metadata.get("annotations", {}).get(GENERATION, 0))
        before, _ = self._newest.get(metadata["uid"], (0, ""))
        title = f"{found['kind']}/{metadata['name']}"
        if generation and generation < before:
            self.stale.append(f"{title}: {generation} over {before}")
        self._newest[metadata["uid"]] = (max(before, generation), title)
