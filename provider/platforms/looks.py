"""Looking at one preview on a platform: its pods or containers, what happened to them, their logs. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from provider.models import ContainerLook as ContainerLook
from provider.models import EventLook as EventLook
from provider.models import PodLook as PodLook

Lines = AsyncGenerator[list[str], None]
"""A log's lines as they come, some at a time; who reads slowly is waited for."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which part of an app's log is wanted.

    Args:
        pod: of which pod or container; None: of the newest.
        tail: the last lines only.
        since: what was said before is left out.
        previous: of the container before its last restart.
        follow: also what comes, until the app ends.
    """

    pod: str | None = None
    tail: int | None = None
    since: datetime | None = None
    previous: bool = False
    follow: bool = False


class Inspector(Protocol):
    """Looks at previews; every call is about one."""

    async def pods(self, slug: str) -> tuple[PodLook, ...]:
        """The preview's pods or containers, oldest first."""

    async def events(self, slug: str) -> tuple[EventLook, ...]:
        """What happened to the preview's parts as far as the platform remembers, oldest first."""

    def app_log(self, slug: str, query: LogQuery) -> Lines:
        """The app's log; nothing where there is no pod (of that name), or none that has said anything."""

    def build_log(self, slug: str, build_inputs: str, job_name: str, *, follow: bool) -> Lines | None:
        """The log of a build that runs, or whose Job or process is there still; None where there is none."""
