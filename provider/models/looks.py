"""What a platform shows of a preview: its pods or containers, and what happened to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContainerLook:
    """One container: `state` is running, waiting, terminated or what the engine calls it."""

    name: str
    image: str
    state: str
    ready: bool
    restarts: int
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    started_at: str = ""
    last_exit_code: int | None = None
    last_reason: str = ""


@dataclass(frozen=True, slots=True)
class PodLook:
    """One pod; on an engine, where there are none, a container by itself. `phase` is the platform's word."""

    name: str
    phase: str
    created_at: str
    node: str = ""
    message: str = ""
    containers: tuple[ContainerLook, ...] = ()


@dataclass(frozen=True, slots=True)
class EventLook:
    """Something that the platform says has happened to a part of the preview."""

    at: str
    kind: str
    name: str
    reason: str
    message: str
    count: int = 1
    warning: bool = False
