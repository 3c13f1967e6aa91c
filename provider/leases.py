"""Who does what among the providers of one bus: a process's deploys are another's as soon as it is dead."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import structlog

from provider.errors import PreviewError
from provider.models import DeployRecord
from provider.pipeline.causes import cancelled
from provider.pipeline.context import Context
from provider.pipeline.runner import Runner
from provider.platforms.base import PartStatus
from provider.store import Lapsed, Living, Lost, Membership

log = structlog.get_logger(__name__)

REVIEW_SECONDS = 60.0
"""How often unfinished deploys are looked through though nobody came or went."""


class Leases:
    """Keeps this process's own lease, and takes over what dead ones have left.

    Args:
        exclusive: whether the platform lets one provider alone work on it: then every other one is dead.
        told: of what befalls the lease: `lapsed`, or `taken_over` for each deploy of a dead one.
    """

    def __init__(
        self,
        *,
        ctx: Context,
        runner: Runner,
        membership: Membership,
        exclusive: bool,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self._ctx = ctx
        self._runner = runner
        self._membership = membership
        self._exclusive = exclusive
        self._told = told or (lambda _: None)
        self._living = Living({membership.name: 0})
        self._reviewed = 0.0
        self._kept_at = -math.inf

    async def start(self) -> list[DeployRecord]:
        """Join, and take over what is nobody's; returns every deploy that is unfinished, whoever runs it."""
        await self._membership.join(alone=self._exclusive)
        self._kept_at = time.monotonic()
        self._ctx.platform.renew(self._membership.epoch)
        return await self._review()

    async def once(self) -> None:
        """Say that this process lives, and see who else does."""
        try:
            await self._membership.beat()
        except Lapsed:
            await self._begin_anew()
        self._kept_at = time.monotonic()
        try:
            await self._look()
        except Lapsed:  # since the beat; what is to be taken over is seen with the next one
            await self._begin_anew()

    async def _look(self) -> None:
        before, self._living = self._living, await self._membership.look()
        if self._living != before:
            self._reviewed = -math.inf  # until it is done: a review that fails is tried with the next beat
        if time.monotonic() - self._reviewed > REVIEW_SECONDS:
            await self._review()

    @property
    def providers(self) -> int:
        """How many live, this one included."""
        return len(self._living.since)

    def part(self) -> PartStatus:
        """The lease of this process, as `/readyz` shows it."""
        silent = time.monotonic() - self._kept_at
        ok = silent < self._membership.lease
        hint = "" if ok else "The others take over its deploys until it can write to the bus's store again."
        return PartStatus("lease", ok, f"renewed {silent:.1f} s ago, {self.providers} providers live", hint)

    def mine(self, key: str) -> bool:
        """Whether this process is the one that sees to `key`; another may believe the same for some seconds."""
        return self._living.keeper(key) == self._membership.name

    async def close(self) -> None:
        """Leave, so that the others need not wait for the lease to lapse."""
        await self._membership.leave()

    async def _begin_anew(self) -> None:
        """Others go on with what ran here: end it without a trace, and only then act by a new epoch."""
        self._told("lapsed")
        log.error("lease.lapsed", detail="this process was taken for dead; its deploys are others' now")
        await self._runner.abandon()
        await self._membership.join()
        self._ctx.platform.renew(self._membership.epoch)

    async def _review(self) -> list[DeployRecord]:
        """Take over the deploys of dead owners that fall to this process."""
        # Listed before one looks who lives: whoever created one of them had joined by then.
        unfinished = await self._ctx.store.unfinished_deploys()
        self._living = await self._membership.look()
        left = [record for record in unfinished if not self._living.has(record.owner) and self.mine(record.deploy_id)]
        left = [record for record in left if not self._runner.is_running(record.deploy_id)]
        taken: list[bool] = []
        if left:
            # What their owners still do in the cluster, if they only slept, must lose against us.
            self._ctx.platform.renew(await self._membership.renew())
            # All at once: the last one would wait for the work of the first, which begins as soon as it is ours.
            taken = await asyncio.gather(*map(self._take_over, left))
            # What the watches told was written before these ran here.
            for deploy_id in await self._ctx.store.cancels.asked():
                self._runner.interrupt(deploy_id, cancelled("by a cancel request"))
            for preview in await self._ctx.store.previews():
                self._runner.on_preview(preview)
        # A last write of the dead owner may have come in between: then it is looked at again with the next beat.
        self._reviewed = time.monotonic() if all(taken) else -math.inf
        return unfinished

    async def _take_over(self, record: DeployRecord) -> bool:
        """Whether it is this process's now."""
        taken = record.model_copy(update={"owner": self._membership.owner})
        try:
            await self._ctx.store.save_deploy(taken)
        except (PreviewError, Lost) as error:
            log.info("deploy.not_resumed", **_named(record), error=str(error))
            return False
        self._told("taken_over")
        log.info("deploy.resumed", **_named(record), phase=record.phase, before=record.owner.instance)
        self._runner.start(taken)
        return True


def _named(record: DeployRecord) -> dict[str, str | None]:
    return {"deploy_id": record.deploy_id, "slug": record.slug, "session": record.request.session_id}
