"""Who set which field (managedFields), and server-side apply, which is decided by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.cluster.standin import fieldsets, skeletons
from tests.cluster.standin.fieldsets import Difference, Path
from tests.cluster.standin.schema import Schema
from tests.cluster.standin.status import Cause, apply_conflict
from tests.cluster.standin.values import Object, clone, items

# Set by the server or part of the object's identity: nobody owns them.
UNOWNED: set[Path] = {("f:apiVersion",), ("f:kind",), ("f:metadata",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        *("name", "namespace", "uid", "creationTimestamp", "generation", "managedFields", "resourceVersion"),
        *("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"),
    )
}


@dataclass(frozen=True)
class Manager:
    """One line of managedFields: `operation` is Apply or Update."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


class Share:
    """What a manager owns, and since when it owns just that; read and written only as far as it is needed."""

    def __init__(self, fields: set[Path], time: str) -> None:
        self.time = time
        self._fields: set[Path] | None = fields
        self._tree: Object | None = None

    @classmethod
    def of(cls, tree: Object, time: str) -> Share:
        """From FieldsV1."""
        share = cls(set(), time)
        share._fields, share._tree = None, tree
        return share

    @property
    def fields(self) -> set[Path]:
        if self._fields is None:
            self._fields = fieldsets.decode(self._tree or {})
        return self._fields

    @property
    def tree(self) -> Object:
        """FieldsV1."""
        if self._tree is None:
            self._tree = fieldsets.encode(self.fields)
        return self._tree

    def lose(self, paths: set[Path]) -> None:
        """These belong to it no more; its time stays."""
        below = self._tree.keys() if self._tree is not None else None
        if paths and (below is None or not below.isdisjoint(path[0] for path in paths)):
            self._fields, self._tree = self.fields - paths, None


Shares = dict[Manager, Share]


def read_shares(obj: Object | None) -> Shares:
    """The managedFields of an object."""
    shares: Shares = {}
    for entry in items(obj, "metadata", "managedFields"):
        manager = Manager(
            entry.get("manager", ""), entry["operation"], entry["apiVersion"], entry.get("subresource", "")
        )
        shares[manager] = Share.of(entry.get("fieldsV1", {}), entry.get("time", ""))
    return shares


def write_shares(obj: Object, shares: Shares) -> None:
    """Puts managedFields into an object, in the server's order; managers who own nothing are left out."""
    lines = sorted(
        ((manager, share) for manager, share in shares.items() if share.tree),
        key=lambda line: (line[0].operation, line[1].time, line[0].name, line[0].subresource),
    )
    obj["metadata"].pop("managedFields", None)
    if lines:
        obj["metadata"]["managedFields"] = [_entry(manager, share) for manager, share in lines]


def _entry(manager: Manager, share: Share) -> Object:
    return {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        **({"time": share.time} if share.time else {}),
        "fieldsType": "FieldsV1",
        "fieldsV1": share.tree,
        **({"subresource": manager.subresource} if manager.subresource else {}),
    }


def without_shares(obj: Object) -> Object:
    """The object without managedFields; shares its other parts with the original."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def same_but_for_times(one: Object, other: Object) -> bool:
    """Whether a write would change nothing but the times in managedFields: then it is none."""
    if one == other:
        return True
    if without_shares(one) != without_shares(other):
        return False
    return [_timeless(entry) for entry in items(one, "metadata", "managedFields")] == [
        _timeless(entry) for entry in items(other, "metadata", "managedFields")
    ]


def _timeless(entry: Object) -> Object:
    return {key: value for key, value in entry.items() if key != "time"}


def owned(paths: Iterable[Path], subresource: str) -> set[Path]:
    """Of these fields, those that a write to this (sub)resource can own."""
    inside = subresource == "status"
    return {path for path in paths if path not in UNOWNED and (path[0] == "f:status") is inside}


def record_update(schema: Schema, old: Object | None, new: Object, manager: Manager, now: str) -> None:
    """Writes into `new` who owns what after an update (or a creation, where `old` is None)."""
    base = _base(old, new, manager.subresource)
    if old is not None and not base:  # nobody is recorded, so nobody will be: not before the first apply
        write_shares(new, base)
        return
    before = without_shares(old) if old else skeletons.empty(new["kind"])
    difference = Difference(schema, before, without_shares(new))
    for other, share in base.items():
        if other != manager:
            share.lose(difference.touched)
    mine = base.get(manager, Share(set(), ""))
    fields = (mine.fields | owned(difference.changed, manager.subresource)) - difference.removed
    if fields != mine.fields:
        base[manager] = Share(fields, now)
    write_shares(new, base)


def _base(old: Object | None, new: Object, subresource: str) -> Shares:
    """What an update starts from: managedFields that the request itself carries, else those that stand."""
    sent = items(new, "metadata", "managedFields")
    if old is None or subresource:
        return read_shares(old)
    if len(sent) == 1 and not sent[0]:
        return {}
    return read_shares(new) if sent and all(_readable(entry) for entry in sent) else read_shares(old)


def _readable(entry: Object) -> bool:
    """Whether an entry that a request carries is one at all; else the whole of its managedFields is ignored."""
    known = entry.get("operation") in ("Apply", "Update") and bool(entry.get("apiVersion"))
    return known and fieldsets.well_formed(entry.get("fieldsV1", {}))


def apply(schema: Schema, live: Object | None, config: Object, manager: Manager, *, force: bool, now: str) -> Object:
    """The object after a server-side apply, managedFields included; ApiError 409 with every conflict."""
    shares = read_shares(live)
    bare = without_shares(live) if live else {}
    if live is not None and not shares:
        first = Manager("before-first-apply", "Update", manager.api_version)
        shares[first] = Share(owned(Difference(schema, skeletons.empty(live["kind"]), bare).changed, ""), now)
    before = shares.get(manager, Share(set(), ""))
    claimed = owned(fieldsets.fields_of(schema, config), manager.subresource)
    shares[manager] = Share(claimed, before.time)
    merged = fieldsets.merge(schema, bare, config)
    merged = fieldsets.remove(schema, merged, _dropped(before.fields, shares))
    difference = Difference(schema, bare, merged)
    _resolve(shares, manager, difference, force=force)
    if merged != bare or before.fields != claimed:
        shares[manager].time = now
    result: Object = clone(merged)
    write_shares(result, shares)
    return result


def _dropped(before: set[Path], shares: Shares) -> set[Path]:
    """What the manager applied last time and nobody owns any more, containers that are left empty included."""
    alive: set[Path] = {("f:metadata",)}  # every configuration names the object, though nobody owns its name
    for share in shares.values():
        for path in share.fields:
            alive.update(path[:end] for end in range(1, len(path) + 1))
    gone = set()
    for path in before:
        for end in range(1, len(path) + 1):
            place = path[:end]
            if place not in alive and (end == len(path) or place[-1].startswith("f:")):
                gone.add(place)
                break
    return gone


def _resolve(shares: Shares, manager: Manager, difference: Difference, *, force: bool) -> None:
    """Refuses what others own, or takes it from them."""
    conflicts: list[tuple[str, Path]] = []
    for other, share in sorted(shares.items(), key=lambda line: (line[0].name, line[0].operation)):
        if other == manager:
            continue
        wanted = share.fields & difference.changed
        if force:
            share.lose(wanted | difference.removed)
        else:
            conflicts += [(_told(other), path) for path in sorted(wanted)]
    if conflicts:
        raise _refused(conflicts)


def _told(manager: Manager) -> str:
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    if manager.operation == "Update":
        text += f" using {manager.api_version}"
    return text


def _refused(conflicts: list[tuple[str, Path]]) -> Exception:
    causes = [Cause("FieldManagerConflict", f"conflict with {who}", fieldsets.told(path)) for who, path in conflicts]
    if len(conflicts) == 1:
        who, path = conflicts[0]
        return apply_conflict(causes, f"Apply failed with 1 conflict: conflict with {who}: {fieldsets.told(path)}")
    lines = []
    for who in dict.fromkeys(who for who, _ in conflicts):
        lines.append(f"conflicts with {who}:")
        lines += [f"- {fieldsets.told(path)}" for other, path in conflicts if other == who]
    text = "\n".join(lines)
    return apply_conflict(causes, f"Apply failed with {len(conflicts)} conflicts: {text}")
