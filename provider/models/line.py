"""The line in which deploys stand: who runs, who waits, and for what."""

from __future__ import annotations

from enum import StrEnum

from provider.models.base import Tolerant, digest_of
from provider.models.records import RECORD_VERSION

REPOSITORY_CHARS = 12


class Stage(StrEnum):
    """Where a deploy stands. Who waits for a build holds no place among the deploys that run."""

    WAITING = "waiting"
    DEPLOYING = "deploying"
    BUILD_WAITING = "build_waiting"
    BUILDING = "building"


class Ticket(Tolerant):
    """One deploy in the line; `order` says who came first, `repo` is `short_repo` of its repository."""

    deploy_id: str
    order: int
    repo: str
    instance: str
    stage: Stage


class LineRecord(Tolerant):
    """Everybody in the line of one installation, whichever provider runs it."""

    version: int = RECORD_VERSION
    platform_id: str
    tickets: tuple[Ticket, ...] = ()


def short_repo(repo_full_name: str) -> str:
    """A short name for a repository; git hosts take its name in any case."""
    return digest_of(repo_full_name.casefold())[:REPOSITORY_CHARS]
