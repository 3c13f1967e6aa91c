"""What deploys say, on its way out: secrets masked, a build's log told as it comes and kept whole.

Nothing waits for a log to be kept: that is done beside the deploy, and what fails there is logged and no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog

from provider.errors import PreviewError, Temporary
from provider.masking import Everything, MaskedStream, Masker
from provider.models import LOG_TAIL_LINES, DeployRecord, SecretValues, Tolerant
from provider.platforms.base import Platform
from provider.store import KeptLog, Shelf, Spool, key_of

T = TypeVar("T", bound=Tolerant)
log = structlog.get_logger(__name__)

OF_A_FAILURE = ("message", "hint", "evidence", "log_tail", "details")
OF_A_CHECK = ("got", "answers")
"""Where others' words stand."""
NAMES = frozenset({"url", "slug", "deploy_id", "joins", "code", "reason", "waiting_for"})
KEEP_PAUSE = 0.02
"""Seconds in which the deploy goes on first: somebody waits for that."""
RECALL_SECONDS = 15.0
RECALL_PAUSE = 0.5


class Logbook:
    """One provider's; see the module.

    Args:
        shelf: where logs are kept.
        most: bytes of one log that are kept.
        secrets: gives the values that are secret whatever is deployed; they become more as files are read anew.
        patience: seconds in which the secrets of a deploy that is taken over have to be had.
    """

    def __init__(
        self,
        *,
        shelf: Shelf,
        most: int,
        secrets: Callable[[], frozenset[str]] = frozenset,
        patience: float = RECALL_SECONDS,
    ) -> None:
        self._patience = patience
        self._shelf = shelf
        self._most = most
        self._present = secrets
        self._always = secrets()
        self._secrets: dict[str, frozenset[str]] = {}
        self._maskers: dict[str, Masker] = {}
        self._nobodys = Masker(self._always)
        self._keeping: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ secrets

    def learn(self, deploy_id: str, values: Iterable[str]) -> None:
        """These are secrets of the deploy; what was learnt before stays."""
        known = self._secrets.get(deploy_id, frozenset())
        if more := frozenset(values) - known:
            self._secrets[deploy_id] = known | more
            self._maskers.pop(deploy_id, None)

    async def recall(self, record: DeployRecord, platform: Platform) -> None:
        """Learn the secrets of a deploy that another process accepted; where they can't be had, nothing is shown."""
        deploy_id, request = record.deploy_id, record.request
        has_secrets = (request.secret_names or request.extra_env_names) and (record.staged or record.bundle)
        if deploy_id in self._secrets or not has_secrets:
            return
        try:
            async with asyncio.timeout(self._patience):
                self.learn(deploy_id, await _patiently(record, platform))
        except (PreviewError, TimeoutError) as error:
            log.warning("logbook.secrets_unknown", deploy_id=deploy_id, error=str(error))
            self._secrets[deploy_id], self._maskers[deploy_id] = frozenset(), Everything()

    def forget(self, deploy_id: str) -> None:
        """The deploy is over here."""
        self._secrets.pop(deploy_id, None)
        self._maskers.pop(deploy_id, None)

    def masker(self, deploy_id: str = "") -> Masker:
        """What masks that deploy's secrets, and what is always secret."""
        if (always := self._present()) != self._always:
            self._always, self._nobodys = always, Masker(always)
            self._maskers = {key: one for key, one in self._maskers.items() if isinstance(one, Everything)}
        if deploy_id not in self._secrets:
            return self._nobodys
        if deploy_id not in self._maskers:
            self._maskers[deploy_id] = Masker(self._always | self._secrets[deploy_id])
        return self._maskers[deploy_id]

    def masking(self, deploy_id: str, values: frozenset[str] | None) -> Callable[[], Masker]:
        """What gives the masker for these values, and for those of the deploy, which may become more as it goes on.

        None: they could not be had, and nothing is shown.
        """
        if values is None:
            return Everything
        all_values, masker = frozenset[str](), Masker()

        def present() -> Masker:
            nonlocal all_values, masker
            if isinstance(own := self.masker(deploy_id), Everything):
                return own
            known = self._always | values | self._secrets.get(deploy_id, frozenset())
            if not known <= all_values:
                all_values |= known
                masker = Masker(all_values)
            return masker

        return present

    def masked(self, record: DeployRecord) -> DeployRecord:
        """The record with the deploy's secrets masked wherever others' words stand in it."""
        masker = self.masker(record.deploy_id)
        if masker.idle:
            return record
        update: dict[str, Any] = {
            "warnings": masker.data(record.warnings),
            "checks": tuple(_masked(check, OF_A_CHECK, masker) for check in record.checks),
        }
        if record.failure is not None:
            update["failure"] = _masked(record.failure, OF_A_FAILURE, masker)
        return record.model_copy(update=update)

    def event_data(self, record: DeployRecord, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """An event's data with the deploy's secrets masked; not in what is a name or an address of ours."""
        masker = self.masker(record.deploy_id)
        if masker.idle:
            return data
        return {name: value if name in NAMES else masker.data(value) for name, value in data.items()}

    def error(self, record: DeployRecord, error: PreviewError) -> dict[str, Any]:
        """What the provider's own log says of an error, which may quote what an app or a build said."""
        said = {"error": str(error), "reason": error.reason, "evidence": error.evidence}
        return dict(self.masker(record.deploy_id).data(said))

    # --------------------------------------------------------------- build logs

    def build_log(self, record: DeployRecord, tell: Callable[[list[str]], None]) -> BuildLog:
        """Takes the log of the deploy's build; `tell` gets the lines as they can be shown."""
        return BuildLog(MaskedStream(lambda: self.masker(record.deploy_id)), tell, Spool(self._most))

    def keep(self, record: DeployRecord, finished: BuildLog, *, complete: bool) -> None:
        """Keep what was said, beside what goes on; `complete`: whether the build ended, rather than its follower."""
        finished.end()
        if finished.spool.lines:
            task = asyncio.create_task(self._kept_beside(record, finished.spool, complete), name="keep a build's log")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def kept(self, slug: str, build_inputs: str) -> KeptLog | None:
        """The log of a build that is over; the caller closes it. Raises Temporary."""
        return await self._shelf.get(key_of(slug, build_inputs))

    async def close(self, seconds: float) -> None:
        """Give what is being kept so many seconds."""
        if self._keeping:
            _, late = await asyncio.wait(self._keeping, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _kept_beside(self, record: DeployRecord, spool: Spool, complete: bool) -> None:
        try:
            await asyncio.sleep(KEEP_PAUSE)
            await self._put(record, spool, complete)
        except PreviewError as error:
            log.warning("build_log.not_kept", slug=record.slug, error=str(error), evidence=error.evidence)
        except Exception:
            log.exception("build_log.not_kept")
        finally:
            spool.close()

    async def _put(self, record: DeployRecord, spool: Spool, complete: bool) -> None:
        slug = str(record.slug)
        if not complete and (present := await self.kept(slug, record.build_inputs)) is not None:
            present.close()
            if present.info.complete and present.info.ended_at > spool.began:
                return  # another provider followed the same build to its end
        await self._shelf.put(key_of(slug, record.build_inputs), spool.kept(record.deploy_id, complete=complete))
        log.debug("build_log.kept", slug=slug, deploy_id=record.deploy_id, lines=spool.lines)


class BuildLog:
    """Takes the lines of one build; see `Logbook.build_log`."""

    def __init__(self, stream: MaskedStream, tell: Callable[[list[str]], None], spool: Spool) -> None:
        self.spool = spool
        self._stream = stream
        self._tell = tell
        self._tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)

    def __call__(self, lines: list[str]) -> None:
        """Take some lines; never blocks."""
        self._take(self._stream.feed(lines))

    def end(self) -> None:
        """There are no more."""
        self._take(self._stream.flush())

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, masked."""
        return tuple(self._tail)

    def _take(self, lines: list[str]) -> None:
        if lines:
            self.spool.write(lines)
            self._tail.extend(lines)
            self._tell(lines)


def plain(values: SecretValues) -> list[str]:
    """The values themselves."""
    return [value.get_secret_value() for value in (*values.secrets.values(), *values.extra_env.values())]


async def _patiently(record: DeployRecord, platform: Platform) -> frozenset[str]:
    while True:
        try:
            return await platform.secret_values(record.staged, (record.bundle,) if record.bundle else ())
        except Temporary as error:
            await asyncio.sleep(error.delay or RECALL_PAUSE)


def _masked(what: T, fields: tuple[str, ...], masker: Masker) -> T:
    return what.model_copy(update={name: masker.data(getattr(what, name)) for name in fields})
