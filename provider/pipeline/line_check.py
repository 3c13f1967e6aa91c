"""Takes out of the line what nobody else will: the places of deploys that are over, or never were.

Providers that die leave them there, and each may be the one that somebody waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container

import structlog

from provider.errors import PreviewError
from provider.models import DeployRecord
from provider.pipeline.line_writer import LineWriter
from provider.store import Store
from provider.store import line as rules

log = structlog.get_logger(__name__)

FIRST_SECONDS, CROWDED_SECONDS, SECONDS = 1.0, 5.0, 30.0
"""Checks are close to each other at first, when a provider before may just have died, and become rare; less so while
somebody waits for a turn."""
LACKING_SECONDS = 30.0
"""A place is reserved before the deploy's record is made: so long that has to be lacking."""


class LineCheck:
    """Checks the line again and again.

    Args:
        store: has the deploys' records.
        writer: knows the line, and writes it.
        limits: by which somebody has to wait.
        own: the deploys of this process, which gives their places back itself.
    """

    def __init__(self, *, store: Store, writer: LineWriter, limits: rules.Limits, own: Container[str]) -> None:
        self._store = store
        self._writer = writer
        self._limits = limits
        self._own = own
        self._lacking: dict[str, float] = {}

    async def run(self, mine: Callable[[str], bool]) -> None:
        """Check, where that is `mine` to do; for ever."""
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                if mine("line"):
                    await self.check()
            except PreviewError as error:
                log.warning("line.not_checked", error=str(error))
            pause = min(2 * pause, CROWDED_SECONDS if self._is_crowded() else SECONDS)

    async def check(self) -> None:
        """Take out what others left there by now."""
        line, at = self._writer.line, time.monotonic()
        others = [one.deploy_id for one in line.tickets if one.deploy_id not in self._own] if line is not None else []
        found = {deploy_id: await self._store.get_deploy(deploy_id) for deploy_id in others}
        self._lacking = {key: self._lacking.get(key, at) for key, record in found.items() if record is None}
        over = {deploy_id for deploy_id, record in found.items() if record is not None and _needs_none(record)}
        over |= {deploy_id for deploy_id, since in self._lacking.items() if at - since >= LACKING_SECONDS}
        if gone := {deploy_id for deploy_id in over if deploy_id not in self._own}:
            log.info("line.dropped", deploy_ids=sorted(gone))
            self._writer.write(rules.left(gone))

    def _is_crowded(self) -> bool:
        line = self._writer.line
        return line is not None and rules.queued(line, self._limits) > 0


def _needs_none(record: DeployRecord) -> bool:
    return record.report is not None or record.joins is not None or record.held
