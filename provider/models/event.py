"""What happened to a deploy, as the bus tells it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict

from provider.errors import Code, Whose
from provider.models.base import Frozen
from provider.models.outcome import Phase


class EventType(StrEnum):
    """Types of an event (contract.md)."""

    PHASE_STARTED = "phase.started"
    PHASE_FINISHED = "phase.finished"
    LOG = "log"
    WARNING = "warning"
    STATE = "state"


class Event(Frozen):
    """One thing that happened to a deploy."""

    event_id: str
    slug: str | None
    deploy_id: str
    at: datetime
    type: EventType
    phase: Phase | None = None
    data: Mapping[str, Any] = {}


class _Data(Frozen):
    model_config = ConfigDict(extra="allow")


class NoData(_Data):
    """Nothing is said of a phase that has begun."""


class PhaseEnd(_Data):
    """How a phase ended; the last three of one that failed."""

    ok: bool
    seconds: float
    code: Code | None = None
    reason: str | None = None
    message: str | None = None


class LogData(_Data):
    """Lines of the build's log, in order."""

    lines: tuple[str, ...]


class WarningData(_Data):
    """What people should know; facts for programs stand beside `message`, by the `reason`.

    `retrying`: the error after which a phase is tried again `in_seconds`. `waiting_for`: the part that is away.
    """

    message: str | None = None
    reason: str | None = None
    retrying: str | None = None
    waiting_for: str | None = None
    in_seconds: float | None = None
    dropped_log_lines: int | None = None


class StateData(_Data):
    """How it stands with a deploy.

    `ok` with `code` or `url`: it is over. `joins`: another deploy does the work. `position` of `of`: it stands in line
    and `waits_for` its turn to build or deploy. A queued request that was refused has the fields of the failure form.
    """

    ok: bool | None = None
    code: Code | None = None
    url: str | None = None
    joins: str | None = None
    waits_for: Literal["build", "deploy"] | None = None
    position: int | None = None
    of: int | None = None
    reason: str | None = None
    message: str | None = None
    hint: str | None = None
    retryable: bool | None = None
    whose: Whose | None = None
    repo_full_name: str | None = None
    branch: str | None = None


EVENT_DATA: dict[EventType, type[Frozen]] = {
    EventType.PHASE_STARTED: NoData,
    EventType.PHASE_FINISHED: PhaseEnd,
    EventType.LOG: LogData,
    EventType.WARNING: WarningData,
    EventType.STATE: StateData,
}
"""What stands in `data` of an event of each type."""
