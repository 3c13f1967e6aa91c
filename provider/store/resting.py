"""How the record of a preview at rest changes, when what runs is compared with it. As pure as `reducers`."""

from __future__ import annotations

from provider.errors import Code, Permanent
from provider.models import Failure, Phase, PreviewRecord, PreviewState
from provider.store.records import Reducer


def at_rest(record: PreviewRecord | None) -> bool:
    """Whether the preview serves its last good revision, and nothing of it is changed; one may wait for approval."""
    return (
        record is not None
        and record.removed_at is None
        and record.state in {PreviewState.READY, PreviewState.DEGRADED, PreviewState.AWAITING_APPROVAL}
        and record.last_good is not None
    )


def repairing(generation: int) -> Reducer:
    """What somebody changed is being put back: a change with a generation of its own, so that two exclude each other.

    Raises `superseded` when the preview is not at rest at `generation` any more.
    """
    return lambda record: _at(record, generation).model_copy(update={"generation": generation + 1})


def repaired(generation: int, anchor_id: str | None) -> Reducer:
    """All was put back as `generation`, below that anchor; what was said of its lack is past. Raises `superseded`."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = _at(record, generation)
        past = {"state": _state(present, PreviewState.READY), "failure": None} if is_lacking(present) else {}
        return present.model_copy(update={"anchor_id": anchor_id, **past})

    return reduce


def lacking(generation: int, failure: Failure) -> Reducer:
    """The last good revision lacks something that can't be put back. Raises `superseded`.

    Where the newest deploy failed, that stays what the record tells, with this among its evidence.
    """
    cause = failure.model_copy(update={"phase": Phase.RESTORE})
    line = f"{failure.reason}: {failure.message}"

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = _at(record, generation)
        known = present.failure
        if known is None or is_lacking(present):
            return present.model_copy(update={"state": _state(present, PreviewState.DEGRADED), "failure": cause})
        evidence = known.evidence if line in known.evidence else (*known.evidence, line)
        return present.model_copy(update={"failure": known.model_copy(update={"evidence": evidence})})

    return reduce


def is_lacking(record: PreviewRecord) -> bool:
    """Whether the record says so: no deploy fails in the phase `restore`."""
    return record.failure is not None and record.failure.phase is Phase.RESTORE


def _state(record: PreviewRecord, state: PreviewState) -> PreviewState:
    return record.state if record.state is PreviewState.AWAITING_APPROVAL else state


def _at(record: PreviewRecord | None, generation: int) -> PreviewRecord:
    if record is None or not at_rest(record) or record.generation != generation:
        raise Permanent(
            Code.SUPERSEDED,
            "The preview is not at rest any more.",
            reason="NotAtRest",
            hint="Follow the deploy or teardown that is under way.",
        )
    return record
