"""How the record of a preview at rest changes, when what runs is compared with it. As pure as `reducers`."""

from __future__ import annotations

from datetime import datetime

from provider.errors import Code, Permanent
from provider.models import BuiltImage, Failure, Newest, Phase, PreviewOutline, PreviewRecord, PreviewState, Revision
from provider.store.records import Reducer


def at_rest(record: PreviewOutline | None) -> bool:
    """Whether the preview serves its last good revision, and nothing of it is changed; one may wait for approval."""
    return (
        record is not None
        and record.removed_at is None
        and record.state in {PreviewState.READY, PreviewState.DEGRADED, PreviewState.AWAITING_APPROVAL}
        and record.last_good is not None
    )


def adopted(revision: Revision, *, slug: str, platform_id: str, url: str, generation: int, now: datetime) -> Reducer:
    """A preview whose record was lost, and that serves this revision, has one again; one that has a record keeps it.

    A tombstone is a record, too: what was torn down does not come back.
    """
    origin = revision.origin
    assert origin is not None, "notes without one are not read"
    image = BuiltImage(
        build_inputs=origin.build_inputs, digest=revision.digest, image=revision.image, built_at=revision.made_at
    )
    record = PreviewRecord(
        platform_id=platform_id,
        slug=slug,
        repo_full_name=origin.repo_full_name,
        branch=revision.branch,
        url=url,
        state=PreviewState.READY,
        generation=generation,
        newest=Newest(order=0, deploy_id=revision.deploy_id, inputs=revision.inputs),
        last_access=now,
        installation_id=origin.installation_id,
        created_at=revision.made_at,
        updated_at=now,
        current=revision,
        last_good=revision,
        images=(image,) if origin.build_inputs else (),
    )
    return lambda present: record if present is None else present


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


def is_lacking(record: PreviewOutline) -> bool:
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
