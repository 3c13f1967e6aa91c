"""What the stand-in's own store saw: builds and generations, with no word from a provider."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from provider import render
from provider.platforms.kubernetes.build_state import is_finished

Json = dict[str, Any]
Key = tuple[str, str]


@dataclass
class Build:
    """One build's Job: for which deploy, when and how it ended, and when it was deleted. Moments are `time.time()`."""

    key: Key
    deploy_id: str
    begun: float
    ended: float | None = None
    good: bool = False
    deleted: float | None = None

    def __str__(self) -> str:
        ended = f"{'well' if self.good else 'badly'} after {self.ended - self.begun:.1f} s" if self.ended else "never"
        deleted = f", deleted after {self.deleted - self.begun:.1f} s" if self.deleted else ""
        return f"{self.key[0]} {self.key[1][:12]} for {self.deploy_id} at {self.begun:.1f} (ended {ended}{deleted})"


GENERATION = render.PREFIX + "generation"
SLUG = render.PREFIX + "slug"
INPUTS = render.PREFIX + "build-inputs"
DEPLOY_ID = render.PREFIX + "deploy-id"
APPLIED = ("ConfigMap", "NetworkPolicy", "Service", "Deployment", "Ingress")


@dataclass
class Ledger:
    """Follows the store from the beginning.

    Attributes:
        builds: every Job, in order.
        again: builds of the same inputs, each with the one before.
        stale: objects that were written by an older generation than stood there.
    """

    builds: dict[str, Build] = field(default_factory=dict)
    again: list[tuple[Build, Build]] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    _last: dict[Key, Build] = field(default_factory=dict)
    _newest: dict[str, tuple[int, str]] = field(default_factory=dict)

    def notice(self, event: str, found: Json) -> None:
        """One commit of the store."""
        if found["kind"] == "Job":
            self._job(event, found)
        elif found["kind"] in APPLIED and event != "DELETED":
            self._object(found)

    def _job(self, event: str, job: Json) -> None:
        metadata, status = job["metadata"], job.get("status", {})
        notes = metadata.get("annotations", {})
        if event == "ADDED":
            key = (metadata.get("labels", {}).get(SLUG, ""), notes.get(INPUTS, ""))
            build = self.builds[metadata["uid"]] = Build(key, notes.get(DEPLOY_ID, ""), time.time())
            if key in self._last:
                self.again.append((self._last[key], build))
            self._last[key] = build
        build = self.builds[metadata["uid"]]
        if build.ended is None and (status.get("succeeded") or is_finished(job)):
            build.ended, build.good = time.time(), bool(status.get("succeeded"))
        if event == "DELETED":
            build.deleted = time.time()

    def _object(self, found: Json) -> None:
        metadata = found["metadata"]
        generation = int(metadata.get("annotations", {}).get(GENERATION, 0))
        before, _ = self._newest.get(metadata["uid"], (0, ""))
        title = f"{found['kind']}/{metadata['name']}"
        if generation and generation < before:
            self.stale.append(f"{title}: {generation} over {before}")
        self._newest[metadata["uid"]] = (max(before, generation), title)
