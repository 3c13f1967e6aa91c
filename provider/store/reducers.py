"""Every way in which a preview's record changes: pure, and the same when repeated.

Each function returns a reducer for `Store.change_preview`. A process may die after any write and do
it again on waking up, so a reducer that finds its work done returns the record as it is.

Order decides, not arrival: `newest` names the last accepted change, a deploy or a teardown (then
`newest.deploy_id` is empty), and whatever is older gives way.
"""

from __future__ import annotations

from datetime import datetime

from provider.errors import Code, Permanent
from provider.models import (
    HISTORY_KEPT,
    IMAGES_KEPT,
    BuiltImage,
    DeployRecord,
    Failure,
    Newest,
    PastDeploy,
    PreviewRecord,
    PreviewState,
    Revision,
)
from provider.store import claims
from provider.store.records import Reducer
from provider.store.wishes import fresh, kept, order_of, wishes_of

TORN_DOWN = ""
"""What stands in `newest.deploy_id` when the last accepted change is a teardown."""
NOT_SHARED = {Code.CANCELLED, Code.CLAIMED, Code.BUDGET_EXCEEDED}
"""How a deploy ends for its own asker, and not for those that joined it."""


def still_newest(preview: PreviewRecord | None, deploy: DeployRecord) -> bool:
    """Whether the deploy is what the preview shall become; one that joined another is not."""
    return preview is not None and preview.newest.deploy_id == deploy.deploy_id


def joins(preview: PreviewRecord, deploy: DeployRecord) -> str | None:
    """After `admitted`: the id of the running deploy whose outcome this deploy shares, or None."""
    return None if still_newest(preview, deploy) else preview.newest.deploy_id


def admitted(deploy: DeployRecord, url: str, inputs: str, now: datetime, lost: int = 0) -> Reducer:
    """Make the deploy the preview's newest, or join the one under way that does the same (see `joins`).

    A preview without a record begins after generation `lost`, the newest that the platform still knows of it.

    A joining deploy leaves its order behind: it was accepted, so an older one must not pass it. It stays joined after
    the other's end, unless that is not shared (see `NOT_SHARED`): then the first that comes is the newest itself,
    whenever it was accepted, and the others join it. One that waited for its approval (see `held`) goes on. Raises
    `slug_taken`, `claimed`, `superseded`, or `cancelled` when a later teardown was accepted.
    """
    order = order_of(deploy)

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        if record is None:
            return fresh(deploy, url, inputs, now, generation=lost + 1)
        _same_owner(record, deploy)
        waited = still_newest(record, deploy) and record.state is PreviewState.AWAITING_APPROVAL
        known = record.newest.order == order and record.newest.deploy_id != TORN_DOWN and not _ended_alone(record)
        if not waited and (known or still_newest(record, deploy)):
            return record
        claim = claims.passed(record, claims.Asker(deploy.request.session_id, deploy.request.force), now)
        latest = max(order, record.newest.order)
        if record.removed_at is None and _under_way(record, inputs):
            # Also one that was accepted a little earlier: the last accepted wants the same.
            return _with(record, newest=record.newest.model_copy(update={"order": latest}), claim=claim)
        if not waited and not _given_up(record, inputs):
            _not_older(record, order)
        if record.removed_at is not None:
            return fresh(deploy, url, inputs, now, generation=record.generation + 1)
        # A teardown that was begun takes away what ran, so there is nothing to go back to.
        nothing = {"current": None, "last_good": None} if record.state is PreviewState.REMOVING else {}
        newest = {"newest": Newest(order=latest, deploy_id=deploy.deploy_id, inputs=inputs)}
        wishes = wishes_of(deploy, url, inputs, now) | kept(record, deploy) | newest
        return _with(record, **wishes, claim=claim, generation=record.generation + 1, **nothing)

    return reduce


def held(deploy: DeployRecord, url: str, now: datetime, lost: int = 0) -> Reducer:
    """Make the deploy the preview's newest, waiting for an approval; nothing else that it wants is done yet.

    Raises as `admitted` does; a claim is not taken over before the approval.
    """
    order = order_of(deploy)

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        waits = {"state": PreviewState.AWAITING_APPROVAL}
        if record is None:
            return _with(fresh(deploy, url, "", now, generation=lost + 1), **waits)
        _same_owner(record, deploy)
        if still_newest(record, deploy):
            return record
        claims.passed(record, claims.Asker(deploy.request.session_id, deploy.request.force), now)
        _not_older(record, order)
        if record.removed_at is not None:
            return _with(fresh(deploy, url, "", now, generation=record.generation + 1), **waits)
        nothing = {"current": None, "last_good": None} if record.state is PreviewState.REMOVING else {}
        newest = Newest(order=order, deploy_id=deploy.deploy_id)
        return _with(record, **waits, newest=newest, last_access=now, warned_at=None, **nothing)

    return reduce


def deploying(
    deploy: DeployRecord, revision: Revision, anchor_id: str | None = None, now: datetime | None = None
) -> Reducer:
    """The revision is being applied, below that anchor. Raises `superseded`, `cancelled`, or `claimed`.

    A claim that was made since the deploy was admitted counts (at `now`) until something of it is being applied.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = _newest(record, deploy)
        begun = present.current is not None and present.current.deploy_id == deploy.deploy_id
        if now is not None and not begun:
            claims.passed(present, claims.Asker(deploy.request.session_id), now)
        return _with(present, current=revision, anchor_id=anchor_id)

    return reduce


def image_built(deploy: DeployRecord, image: BuiltImage, then: Reducer) -> Reducer:
    """`then`, and a digest is remembered, whatever becomes of its deploy: the build need not be repeated."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = then(record)
        if present.removed_at is not None or not _owns(present, deploy):
            return present
        return _with(present, images=_remembered(present, image))

    return reduce


def succeeded(
    deploy: DeployRecord, revision: Revision, image: BuiltImage | None = None, at: datetime | None = None
) -> Reducer:
    """The revision serves and is verified (since `at`). Raises `superseded` or `cancelled`."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = _newest(record, deploy)
        return _with(
            present,
            state=PreviewState.READY,
            current=revision,
            last_good=revision,
            failure=None,
            images=_remembered(present, image) if image else present.images,
            history=_history(present, PastDeploy.of(deploy, None)),
            last_access=max(present.last_access, at or present.last_access),
        )

    return reduce


def failed(deploy: DeployRecord, failure: Failure, at: datetime | None = None) -> Reducer:
    """The deploy failed (`at`): the last good serves again; a failed first one is kept to look at.

    The record stays as it is when something newer was accepted: its state is that one's.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = _existing(record, deploy.slug)
        if not still_newest(present, deploy):
            return present
        good = present.last_good
        return _with(
            present,
            state=PreviewState.DEGRADED if good else PreviewState.FAILED,
            current=good or present.current,
            failure=failure,
            history=_history(present, PastDeploy.of(deploy, failure)),
            last_access=max(present.last_access, at or present.last_access),
        )

    return reduce


def removing(
    order: int, now: datetime, *, slug: str, platform_id: str, asker: claims.Asker = claims.NOBODY, lost: int = 0
) -> Reducer:
    """A teardown with that order was accepted. Raises `claimed` or `superseded`.

    Without a record it leaves a tombstone: a deploy that was accepted before must not bring the preview up. One that is
    there is kept as long again. `lost` is the newest generation that the platform has something of: that goes, too, and
    the next one is newer.
    """

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        newest = Newest(order=order, deploy_id=TORN_DOWN)
        if record is None:
            return _tombstone(slug, platform_id, newest, now, lost)
        if record.newest.order == order:
            return record
        claims.passed(record, asker, now)
        _not_older(record, order)
        access, generation = max(record.last_access, now), max(record.generation, lost)
        changed = _with(record, state=PreviewState.REMOVING, newest=newest, last_access=access, claim=None)
        removed_at = now if record.removed_at is not None else None
        return changed.model_copy(update={"generation": generation, "removed_at": removed_at})

    return reduce


def _tombstone(slug: str, platform_id: str, newest: Newest, now: datetime, generation: int) -> PreviewRecord:
    return PreviewRecord(
        generation=generation,
        platform_id=platform_id,
        slug=slug,
        repo_full_name="",
        branch="",
        url="",
        state=PreviewState.REMOVING,
        newest=newest,
        last_access=now,
        created_at=now,
        updated_at=now,
        removed_at=now,
    )


def removed(order: int, now: datetime) -> Reducer:
    """The teardown is done: a tombstone that keeps order and generation, unless something newer was accepted."""

    def reduce(record: PreviewRecord | None) -> PreviewRecord:
        present = _existing(record)
        if present.newest.order != order or present.newest.deploy_id != TORN_DOWN or present.removed_at is not None:
            return present
        return PreviewRecord(
            platform_id=present.platform_id,
            slug=present.slug,
            repo_full_name=present.repo_full_name,
            branch=present.branch,
            url=present.url,
            state=PreviewState.REMOVING,
            generation=present.generation,
            newest=present.newest,
            last_access=present.last_access,
            created_at=present.created_at,
            updated_at=present.updated_at,
            removed_at=now,
        )

    return reduce


# ---------------------------------------------------------------------------------- parts


def _with(record: PreviewRecord, **changes: object) -> PreviewRecord:
    return record.model_copy(update=changes)


def _under_way(record: PreviewRecord, inputs: str) -> bool:
    same = record.newest.inputs == inputs and record.newest.deploy_id != TORN_DOWN
    return same and record.state is PreviewState.PROVISIONING and record.failure is None


def _ended_alone(record: PreviewRecord) -> bool:
    """Whether the newest deploy ended by what only it had to do with."""
    return record.failure is not None and record.failure.code in NOT_SHARED


def _given_up(record: PreviewRecord, inputs: str) -> bool:
    """Whether the newest deploy would have done just this, for itself and all that joined it, and ended alone."""
    return record.removed_at is None and record.newest.inputs == inputs and _ended_alone(record)


def _owns(record: PreviewRecord, deploy: DeployRecord) -> bool:
    # Git hosts take a repository's name in any case; one in another case is the same one.
    return record.repo_full_name.casefold() == deploy.request.repo_full_name.casefold()


def _same_owner(record: PreviewRecord, deploy: DeployRecord) -> None:
    if record.removed_at is None and not _owns(record, deploy):
        raise Permanent(
            Code.SLUG_TAKEN,
            f"The preview {record.slug!r} belongs to {record.repo_full_name}.",
            reason="OtherRepository",
            hint="Choose another metadata.name in .x1agent/preview.yaml, or tear that preview down.",
        )


def _not_older(record: PreviewRecord, order: int) -> None:
    if order <= record.newest.order:
        raise _overtaken(record)


def _overtaken(record: PreviewRecord) -> Permanent:
    if record.newest.deploy_id == TORN_DOWN:
        return Permanent(
            Code.CANCELLED,
            f"The preview {record.slug!r} was torn down.",
            reason="TornDown",
            hint="Ask for a new deploy if the preview is still wanted.",
        )
    return Permanent(
        Code.SUPERSEDED,
        f"The deploy {record.newest.deploy_id} of {record.slug!r} was accepted later.",
        reason="NewerDeploy",
        hint=f"Follow deploy {record.newest.deploy_id} instead.",
    )


def _existing(record: PreviewRecord | None, slug: str | None = None) -> PreviewRecord:
    if record is None:
        name = f" {slug!r}" if slug else ""
        raise Permanent(
            Code.NOT_FOUND,
            f"There is no preview{name}.",
            reason="PreviewNotFound",
            hint="`list` names the previews that there are.",
        )
    return record


def _newest(record: PreviewRecord | None, deploy: DeployRecord) -> PreviewRecord:
    present = _existing(record, deploy.slug)
    if not still_newest(present, deploy):
        raise _overtaken(present)
    return present


def _history(record: PreviewRecord, ended: PastDeploy) -> tuple[PastDeploy, ...]:
    """With the deploy that ended in front; one that is there already stays as it was first told."""
    if any(known.deploy_id == ended.deploy_id for known in record.history):
        return record.history
    return (ended, *record.history)[:HISTORY_KEPT]


def _remembered(record: PreviewRecord, image: BuiltImage) -> tuple[BuiltImage, ...]:
    if any((known.build_inputs, known.digest) == (image.build_inputs, image.digest) for known in record.images):
        return record.images
    others = tuple(known for known in record.images if known.build_inputs != image.build_inputs)
    return (image, *others)[:IMAGES_KEPT]
