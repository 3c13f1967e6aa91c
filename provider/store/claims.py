"""Claims: the one session that may change a preview, for a time. Pure, as `reducers` is.

A claim is looked at in the same compare-and-set that makes a change the preview's newest, and again before anything
of a deploy is applied. So of two claimants one wins, and a deploy that was accepted before somebody else's claim ends
as `claimed`, unless it is being applied already: that is finished, since half of it helps nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from provider.errors import Code, Permanent
from provider.models import Claim, PreviewOutline, PreviewRecord, PreviewState
from provider.store.records import Reducer


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants to change a preview: the session, if one is named, and whether it takes a claim over."""

    session_id: str | None = None
    force: bool = False


NOBODY = Asker()


class Seen:
    """A reducer that remembers the record it was given last, so that it can be told whose claim was taken over."""

    def __init__(self, reducer: Reducer) -> None:
        self._reducer = reducer
        self.before: PreviewRecord | None = None

    def __call__(self, record: PreviewRecord | None) -> PreviewRecord:
        """See `records.Reducer`."""
        self.before = record
        return self._reducer(record)

    def displaced(self, after: PreviewRecord, asker: Asker, at: datetime) -> Claim | None:
        """The claim of somebody else that was in force and is not `after` the change: only `force` could do that."""
        held = holding(self.before, at)
        return held if held not in (None, after.claim) and held.session_id != asker.session_id else None


def holding(record: PreviewOutline | None, at: datetime) -> Claim | None:
    """The claim in force at that time, if there is one."""
    claim = record.claim if record is not None else None
    return claim if claim is not None and claim.expires_at > at else None


def passed(record: PreviewRecord, asker: Asker, at: datetime) -> Claim | None:
    """The claim that there is after a change by `asker`: taken over by `force`, ended where that names no session.

    Raises:
        Permanent: `claimed` when the preview is another session's.
    """
    held = holding(record, at)
    if held is None or held.session_id == asker.session_id:
        return held
    if not asker.force:
        raise refusal(record.slug, held)
    return held.model_copy(update={"session_id": asker.session_id}) if asker.session_id else None


def claimed(asker: Asker, ttl_seconds: int, at: datetime) -> Reducer:
    """The asking session alone may change the preview for `ttl_seconds`; asked again, the time begins anew.

    Raises `claimed`, or `not_found`.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = living(record)
        passed(present, asker, at)
        claim = Claim(session_id=str(asker.session_id), expires_at=at + timedelta(seconds=ttl_seconds))
        return _accessed(present, at, claim=claim)

    return reduce


def released(session_id: str, at: datetime) -> Reducer:
    """The session gives its claim up; nothing happens when none is in force. Raises `claimed`, or `not_found`."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = living(record)
        passed(present, Asker(session_id), at)
        return present.model_copy(update={"claim": None})

    return reduce


def attached(session_id: str, from_session: str | None, at: datetime) -> Reducer:
    """The preview is another session's from now on, and so is the claim in force, whose end stays.

    With `from_session` only if it is that one's until now, so that of two handovers one succeeds. Raises `claimed`,
    `conflict`, or `not_found`.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = living(record)
        held = holding(present, at)
        if from_session is not None:
            _expected(present, held, (from_session, session_id))
        claim = held.model_copy(update={"session_id": session_id}) if held is not None else None
        return _accessed(present, at, claim=claim, session_id=session_id)

    return reduce


def living(record: PreviewRecord | None) -> PreviewRecord:
    """The record, unless there is none or its preview is removed or going: `not_found`."""
    if record is None or record.removed_at is not None or record.state is PreviewState.REMOVING:
        name = f" {record.slug!r}" if record is not None else ""
        raise Permanent(
            Code.NOT_FOUND,
            f"There is no preview{name}.",
            reason="PreviewNotFound",
            hint="`list` names the previews that there are.",
        )
    return record


def _accessed(record: PreviewRecord, at: datetime, **changes: object) -> PreviewRecord:
    access = {"last_access": max(record.last_access, at), "warned_at": None}
    return record.model_copy(update=access | changes)


def _expected(record: PreviewRecord, held: Claim | None, sessions: tuple[str, str]) -> None:
    if held is not None and held.session_id not in sessions:
        raise refusal(record.slug, held)
    if held is None and record.session_id not in sessions:
        raise Permanent(
            Code.CONFLICT,
            f"The preview {record.slug!r} is attached to {record.session_id or 'no session'}, not to {sessions[0]}.",
            reason="OtherSession",
            hint="Leave from_session out to attach it whosever it is.",
        )


def refusal(slug: str, claim: Claim) -> Permanent:
    """What everybody else is told of a claim."""
    end = claim.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Permanent(
        Code.CLAIMED,
        f"The preview {slug!r} is claimed by session {claim.session_id} until {end}.",
        reason="ClaimedByOtherSession",
        hint="Wait until then, have that session release it or attach it to yours, or send force (it is audited).",
        evidence=(f"claimed by {claim.session_id}", f"until {end}"),
        details={"claim": claim.model_dump(mode="json")},
    )
