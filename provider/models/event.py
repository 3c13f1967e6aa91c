"""What happened to a deploy, as the bus tells it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from provider.models.base import Frozen
from provider.models.records import Phase


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
