"""When a part of the platform fails again and again, new work on it waits, instead of failing at everybody's cost.

A part that failed three times within a minute, without a success in between, is taken for away. From then on one deploy
at a time is let through to it, after pauses that grow; its success opens the way for all. What a process learnt so is
its own: another may well reach what this one does not.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from provider.errors import Code, PreviewError, Temporary
from provider.models import DeployRecord, Phase
from provider.pipeline.clock import Clock

log = structlog.get_logger(__name__)

FAILURES, WITHIN_SECONDS = 3, 60.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds until somebody is let through, after the first, second, … failure in a row; then as the last."""
LEAST_PATIENCE = 0.5
PROBE_SECONDS = 60.0
"""How long whoever was let through may take to find out, before another is."""


class Part(StrEnum):
    """What a deploy needs of the platform, and can fail for everybody at once."""

    GIT = "git host"
    CREDENTIALS = "credentials endpoint"
    REGISTRY = "registry"
    PLATFORM = "cluster or engine"


NEEDS = {Phase.RESOLVE: (Part.CREDENTIALS, Part.GIT), Phase.BUILD: (Part.REGISTRY, Part.PLATFORM)}
"""What keeps a phase from beginning while it is away. In others what was begun is tried on to its end."""
_SHOWN_BY = {
    Part.GIT: {Phase.RESOLVE},
    Part.CREDENTIALS: {Phase.RESOLVE},
    Part.REGISTRY: {Phase.BUILD},
    Part.PLATFORM: {Phase.ADMIT, Phase.BUILD, Phase.DEPLOY, Phase.ROLLOUT, Phase.VERIFY},
}
"""Phases whose success shows that a part is there, unless it fails only in a later one."""
_ORDER = list(Phase)

_FAULTS: Mapping[tuple[Code, str | None], Part] = {
    (Code.REPO_UNREACHABLE, "Unreachable"): Part.GIT,
    (Code.TOKEN_MINT_FAILED, "Unreachable"): Part.CREDENTIALS,
    (Code.TOKEN_MINT_FAILED, "BadAnswer"): Part.CREDENTIALS,
    (Code.REGISTRY_UNREACHABLE, "Unreachable"): Part.REGISTRY,
    (Code.REGISTRY_UNREACHABLE, "PushFailed"): Part.REGISTRY,
    (Code.PLATFORM_UNREACHABLE, "Unreachable"): Part.PLATFORM,
    (Code.PLATFORM_UNREACHABLE, "EngineUnreachable"): Part.PLATFORM,
    (Code.PLATFORM_UNREACHABLE, "IngressUnreachable"): Part.PLATFORM,
    (Code.PLATFORM_UNREACHABLE, "FirewallUnreachable"): Part.PLATFORM,
}
"""Whose failure an error is. The registry of somebody's base image, for example, is no part of ours."""

Probe = Callable[[], Awaitable[object]]


def part_of(error: PreviewError) -> Part | None:
    """The part that an error says is away."""
    return _FAULTS.get((error.code, error.reason)) if isinstance(error, Temporary) else None


@dataclass(slots=True)
class Outage:
    """What is known of one part.

    `failures` are the times of the last ones; `phases` where they were met; `away` how often it failed since it is
    taken for away (0: it is not); `until` when the next one is let through, and `probing` who was last;
    `of_pushes` whether pushes failed.
    """

    part: Part
    failures: list[float] = field(default_factory=list)
    phases: set[Phase] = field(default_factory=set)
    away: int = 0
    until: float = 0.0
    probing: str | None = None
    of_pushes: bool = False
    last: Temporary | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def is_shown_by(self, phase: Phase, record: DeployRecord) -> bool:
        """Whether success in that phase means that the part is back."""
        if not self.phases or phase not in _SHOWN_BY[self.part] or not _uses(record, self.part):
            return False
        if phase is Phase.BUILD and not record.built:  # nothing was pushed, nor run
            return self.part is Part.REGISTRY and not self.of_pushes
        return self.part is not Part.PLATFORM or _ORDER.index(phase) >= min(map(_ORDER.index, self.phases))

    def over(self) -> None:
        """It is back, or was not away."""
        self.failures, self.phases, self.away, self.probing, self.of_pushes = [], set(), 0, None, False
        self.news()

    def news(self) -> None:
        """Let everybody who waits look again."""
        self.changed.set()
        self.changed = asyncio.Event()


class Outages:
    """Knows which parts are away.

    Args:
        probes: by part, a cheap question that fails while it is away, to be asked before work is let through.
        pauses: see `PAUSES`.

    Attributes:
        waiting: how many deploys wait for each part.
    """

    def __init__(self, probes: Mapping[Part, Probe], pauses: Sequence[float] = PAUSES) -> None:
        self._probes = probes
        self._pauses = pauses
        self._parts = {part: Outage(part) for part in Part}
        self.waiting: Counter[Part] = Counter()

    def away(self, record: DeployRecord, phase: Phase) -> Outage | None:
        """The outage that keeps a deploy from beginning with a phase."""
        needed = (self._parts[part] for part in NEEDS.get(phase, ()) if _uses(record, part))
        return next((outage for outage in needed if outage.away and outage.probing != record.deploy_id), None)

    async def wait(self, record: DeployRecord, phase: Phase, clock: Clock) -> None:
        """Return when the phase may be tried: all that it needs is back, or this deploy shall find out.

        Who has little time left does not wait for the end of a long pause: it may find out after half of that time.
        """
        patience = _half(clock)
        while (outage := self.away(record, phase)) is not None:
            left = (outage.until if outage.probing else min(outage.until, patience)) - time.monotonic()
            if left <= 0:
                await self._let_through(record.deploy_id, outage)
                patience = _half(clock)
                continue
            self.waiting[outage.part] += 1
            try:
                async with asyncio.timeout(left):
                    await outage.changed.wait()
            except TimeoutError:
                continue
            finally:
                self.waiting[outage.part] -= 1

    def failed(self, record: DeployRecord, phase: Phase, error: PreviewError) -> None:
        """A try failed; if a part is to blame, that counts."""
        part = part_of(error)
        if part is None or not isinstance(error, Temporary):
            return
        outage = self._parts[part]
        outage.last = _for_others(part, error)
        outage.phases.add(phase)
        present = time.monotonic()
        # A push was tried many times before it was given up.
        times = FAILURES if error.reason == "PushFailed" else 1
        outage.of_pushes |= error.reason == "PushFailed"
        recent = [at for at in outage.failures if at > present - WITHIN_SECONDS]
        outage.failures = [*recent, *(present for _ in range(times))][-FAILURES:]
        if outage.probing == record.deploy_id or (not outage.away and len(outage.failures) >= FAILURES):
            self._again(outage)

    def worked(self, record: DeployRecord, phase: Phase) -> None:
        """A try succeeded: what failed there before is back."""
        for outage in self._parts.values():
            if outage.is_shown_by(phase, record):
                if outage.away:
                    log.info("outage.over", part=outage.part)
                outage.over()

    def release(self, deploy_id: str) -> None:
        """The deploy is over; if it did not find out, another may at once."""
        for outage in self._parts.values():
            if outage.probing == deploy_id:
                outage.probing, outage.until = None, time.monotonic()
                outage.news()

    async def _let_through(self, deploy_id: str, outage: Outage) -> None:
        """Let this deploy find out, unless a cheap question does already."""
        outage.probing, outage.until = deploy_id, time.monotonic() + PROBE_SECONDS
        probe = self._probes.get(outage.part)
        try:
            if probe is not None:
                await probe()
        except Temporary as error:
            outage.last = _for_others(outage.part, error)
            self._again(outage)

    def _again(self, outage: Outage) -> None:
        """It is away, still or from now on."""
        pause = self._pauses[min(outage.away, len(self._pauses) - 1)]
        outage.away += 1
        outage.until, outage.probing = time.monotonic() + pause, None
        log.warning("outage", part=outage.part, failures=outage.away, pause=pause, error=str(outage.last))
        outage.news()


def _for_others(part: Part, error: PreviewError) -> Temporary:
    """What those who wait for the part are told: not whose failure it was, nor what that one's log said."""
    said = f"{error.code} {error.reason}, when it was asked for another deploy"
    return Temporary(error.code, f"The {part} does not answer.", reason=error.reason, hint=error.hint, evidence=(said,))


def _uses(record: DeployRecord, part: Part) -> bool:
    return part is not Part.CREDENTIALS or record.request.installation_id is not None


def _half(clock: Clock) -> float:
    """When half of the time that is left will be over; no less than a little."""
    present = time.monotonic()
    return max((present + clock.deadline) / 2, present + LEAST_PATIENCE)
