"""How long a preview lives: from its last access, and as long as its branch is there. Pure, as `reducers` is.

What nobody asked to be removed goes only if it is still unwanted in the very compare-and-set that begins the removal:
whoever touches, claims or deploys in between wins. Such a removal is no newer than the last accepted deploy, so that
it ends none that was accepted and is not in the preview's record yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from provider.models import Newest, PreviewOutline, PreviewRecord, PreviewState
from provider.settings import Settings
from provider.store.claims import holding, living
from provider.store.records import Reducer
from provider.store.reducers import TORN_DOWN

AFTER_BUDGET = 600.0
"""Seconds beyond the budget for which a preview that is being deployed is left alone."""

Check = Callable[[PreviewRecord], None]
"""Raises `StillWanted` unless the preview is to be removed."""


class StillWanted(Exception):
    """The preview is not to be removed (any more); nothing was changed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Times to live in seconds.

    Args:
        ttl: without a `ttl_seconds` of its own; 0: for ever.
        longest: the most that may be asked for; 0: anything, also for ever.
        failed: of a preview that never was up.
        warning: how long before its end that is announced; a quarter of the time to live at most.
        busy: for how long a deploy may be under way.
        held: for how long one may wait for an approval.
    """

    ttl: int
    longest: int
    failed: int
    warning: float
    busy: float
    held: float

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """As the settings say."""
        return cls(
            ttl=settings.preview_ttl_seconds,
            longest=settings.preview_ttl_max,
            failed=settings.failed_ttl_seconds,
            warning=settings.expiry_warning_seconds,
            busy=settings.budget_seconds + AFTER_BUDGET,
            held=settings.approval_seconds + AFTER_BUDGET,
        )

    def allowed(self, seconds: int) -> int:
        """What is given to whoever asks for that many seconds."""
        if self.longest and not 0 < seconds <= self.longest:
            return self.longest
        return seconds

    def refusal(self, seconds: int | None) -> tuple[str, ...]:
        """A warning for whoever asks for more than is given."""
        if seconds is None or self.allowed(seconds) == seconds:
            return ()
        asked = "for ever (0)" if seconds == 0 else f"{seconds} s"
        return (f"ttl_seconds: {asked} is not allowed here; the preview lives {self.longest} s from its last access",)

    def seconds(self, record: PreviewOutline) -> int:
        """How long it lives from its last access; 0: for ever."""
        seconds = self.allowed(self.ttl if record.ttl_seconds is None else record.ttl_seconds)
        if record.state is PreviewState.FAILED:
            return min(seconds or self.failed, self.failed)
        return seconds

    def expires_at(self, record: PreviewOutline) -> datetime | None:
        """When it goes unless somebody wants it; None: never, or it is going already. Never while it is claimed."""
        seconds = self.seconds(record)
        if not seconds or record.state is PreviewState.REMOVING:
            return None
        end = record.last_access + timedelta(seconds=seconds)
        busy = {PreviewState.PROVISIONING: self.busy, PreviewState.AWAITING_APPROVAL: self.held}
        end = max(end, record.last_access + timedelta(seconds=busy.get(record.state, 0.0)))
        return max(end, record.claim.expires_at) if record.claim is not None else end

    def warns_at(self, record: PreviewOutline) -> datetime | None:
        """When its end is announced; None where it never ends."""
        end = self.expires_at(record)
        return end - timedelta(seconds=min(self.warning, self.seconds(record) / 4)) if end is not None else None


def touched(at: datetime, ttl_seconds: int | None = None) -> Reducer:
    """Somebody used the preview then, or wants it to live that long from now on. Raises `not_found`."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = living(record)
        update: dict[str, object] = {"last_access": max(present.last_access, at), "warned_at": None}
        if ttl_seconds is not None:
            update["ttl_seconds"] = ttl_seconds
        return present.model_copy(update=update)

    return reduce


def warned(policy: Policy, at: datetime) -> Reducer:
    """Its end was announced; nothing changes when it is not near any more. Raises `not_found`."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = living(record)
        return present.model_copy(update={"warned_at": at}) if unwarned(present, policy, at) else present

    return reduce


def unwarned(record: PreviewOutline, policy: Policy, at: datetime) -> bool:
    """Whether its end is near and was not announced."""
    due = policy.warns_at(record)
    return record.warned_at is None and due is not None and due <= at


def branch_seen(there: bool, at: datetime) -> Reducer:
    """Its branch was looked for. The first time that it is gone is kept; when it is back, that is forgotten.

    Raises `not_found`.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = living(record)
        gone_at = None if there else present.branch_gone_at or at
        return present.model_copy(update={"branch_gone_at": gone_at})

    return reduce


def branches(record: PreviewOutline) -> frozenset[str]:
    """The branches that it is of: the one deployed last, and the one of what serves."""
    serving = {record.last_good.branch} if record.last_good is not None else set()
    return frozenset({record.branch} | serving)


# ------------------------------------------------------------------------------ removal


def unused(policy: Policy, at: datetime) -> Check:
    """Its time to live is over."""

    def check(record: PreviewRecord) -> None:
        end = policy.expires_at(record)
        if end is None or end > at:
            raise StillWanted(record.slug)

    return check


def branch_gone(gone: Collection[str], grace: float, at: datetime) -> Check:
    """Its branches are all in `gone`, as they were at least `grace` seconds ago, and nobody claims it."""

    def check(record: PreviewRecord) -> None:
        since = record.branch_gone_at
        over = since is not None and since < at and since + timedelta(seconds=grace) <= at
        if not over or not branches(record) <= set(gone) or holding(record, at) or _busy(record):
            raise StillWanted(record.slug)

    return check


def _busy(record: PreviewRecord) -> bool:
    return record.state is PreviewState.PROVISIONING


def retiring(check: Check) -> Reducer:
    """The preview is being removed without anybody's asking. Raises `StillWanted`, or `not_found`.

    The order stays that of the last accepted deploy: what was accepted since goes on.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        if record is not None and record.state is PreviewState.REMOVING and record.removed_at is None:
            return record
        present = living(record)
        check(present)
        newest = Newest(order=present.newest.order, deploy_id=TORN_DOWN)
        return present.model_copy(update={"state": PreviewState.REMOVING, "newest": newest, "claim": None})

    return reduce
