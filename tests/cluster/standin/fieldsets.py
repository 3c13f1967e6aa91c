"""Sets of fields, as managedFields keeps them: which ones an object has, and what differs between two.

A path is a tuple of FieldsV1's own elements: `f:name` for a field, `k:{"name":"app"}` for an item of a list that is
merged by keys, `v:"x"` for a member of a set.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Set
from typing import Any

from tests.cluster.standin.schema import KEY_DEFAULTS, Schema
from tests.cluster.standin.values import Object

Path = tuple[str, ...]
ANY = Schema("any")


def element(schema: Schema, value: Any) -> str:
    """An item's place in its list."""
    if schema.merge == "set":
        return f"v:{json.dumps(value, separators=(',', ':'))}"
    keys = {key: value.get(key, KEY_DEFAULTS.get(key)) for key in schema.keys}
    present = {key: keys[key] for key in sorted(keys) if keys[key] is not None}
    return f"k:{json.dumps(present, separators=(',', ':'))}"


def merged_list(schema: Schema) -> bool:
    return schema.kind == "list" and schema.merge in ("set", "keys")


def granular(schema: Schema) -> bool:
    """Whether what stands inside has owners of its own."""
    return merged_list(schema) or (schema.kind in ("object", "map") and schema.merge != "atomic")


def children(schema: Schema, value: Any) -> Iterator[tuple[str, Schema, Any]]:
    """(element, schema, value) of what stands directly inside a granular value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"f:{key}", schema.fields.get(key) or schema.item or ANY, inner
    elif isinstance(value, list):
        for inner in value:
            yield element(schema, inner), schema.item or ANY, inner


def fields_of(schema: Schema, value: Any, path: Path = ()) -> set[Path]:
    """The fields that an applied configuration claims."""
    if not granular(schema) or value is None or (not value and schema.kind != "list"):
        return {path} if path else set()
    found: set[Path] = set()
    for step, inner_schema, inner in children(schema, value):
        if schema.kind == "list":
            found.add((*path, step))
        found |= fields_of(inner_schema, inner, (*path, step))
    return found


def nodes(schema: Schema, value: Any, path: Path) -> set[Path]:
    """Every field of a value that came or went as a whole, its containers included."""
    found = {path}
    if granular(schema) and value is not None:
        inside = list(children(schema, value))
        steps = [step for step, _, _ in inside]
        for step, inner_schema, inner in inside:
            # Items of the same key are one field as a whole: nobody can own a part of either.
            found |= nodes(inner_schema, inner, (*path, step)) if steps.count(step) == 1 else {(*path, step)}
    return found


class Difference:
    """What an update added, modified and removed."""

    def __init__(self, schema: Schema, old: Object, new: Object) -> None:
        self.added: set[Path] = set()
        self.modified: set[Path] = set()
        self.removed: set[Path] = set()
        self._compare(schema, old, new, ())

    @property
    def changed(self) -> set[Path]:
        return self.added | self.modified

    @property
    def touched(self) -> set[Path]:
        return self.added | self.modified | self.removed

    def _compare(self, schema: Schema, old: Any, new: Any, path: Path) -> None:
        if old == new:
            return
        if not granular(schema):
            self.modified.add(path)
            return
        if isinstance(old, dict) and isinstance(new, dict):  # of a structure mostly little differs
            equal = {key for key, inner in new.items() if key in old and old[key] == inner}
            old = {key: inner for key, inner in old.items() if key not in equal}
            new = {key: inner for key, inner in new.items() if key not in equal}
        before = {step: (inner_schema, inner) for step, inner_schema, inner in children(schema, old)}
        after = {step: (inner_schema, inner) for step, inner_schema, inner in children(schema, new)}
        for step, (inner_schema, inner) in after.items():
            if step in before:
                self._compare(inner_schema, before[step][1], inner, (*path, step))
            else:
                self.added |= nodes(inner_schema, inner, (*path, step))
        for step, (inner_schema, inner) in before.items():
            if step not in after:
                self.removed |= nodes(inner_schema, inner, (*path, step))


def merge(schema: Schema, live: Any, config: Any) -> Any:
    """The live value with the configuration's laid over it."""
    if not granular(schema) or live is None or config is None:
        return config
    if isinstance(config, dict) and isinstance(live, dict):
        merged = dict(live)
        for step, inner_schema, inner in children(schema, config):
            key = step[2:]
            merged[key] = merge(inner_schema, live.get(key), inner)
        return merged
    ours = {element(schema, inner): inner for inner in config}
    theirs = {element(schema, inner): inner for inner in live}
    item = schema.item or ANY
    order = _order(list(theirs), list(ours))
    return [merge(item, theirs.get(step), ours[step]) if step in ours else theirs[step] for step in order]


def _order(live: list[str], applied: list[str]) -> list[str]:
    """The applied order; items that only the live list has come as early as their own order allows."""
    order: list[str] = []
    ours, theirs = deque(applied), deque(live)
    shared = deque(step for step in applied if step in live)
    while ours or theirs:
        head = theirs[0] if theirs else None
        if head is not None and head not in applied:
            order.append(theirs.popleft())
            continue
        if head is not None and (not ours or head == ours[0] or head in order):
            theirs.popleft()
        elif head is not None and shared and head != shared[0]:
            theirs.popleft()
            continue
        if ours:
            order.append(ours.popleft())
            if shared and shared[0] == order[-1]:
                shared.popleft()
    return order


def remove(schema: Schema, value: Any, paths: Iterable[Path]) -> Any:
    """A value without what stands at `paths`."""
    gone = set(paths)
    return _remove(schema, value, (), gone) if gone else value


def _remove(schema: Schema, value: Any, path: Path, gone: set[Path]) -> Any:
    if not granular(schema) or value is None:
        return value
    kept = [
        (step, _remove(inner_schema, inner, (*path, step), gone))
        for step, inner_schema, inner in children(schema, value)
        if (*path, step) not in gone
    ]
    return {step[2:]: inner for step, inner in kept} if isinstance(value, dict) else [inner for _, inner in kept]


def encode(paths: Iterable[Path]) -> Object:
    """FieldsV1: nested elements, sorted; `.` marks a container that is itself a member."""
    members = frozenset(paths)
    root: Object = {".": {}} if len(members) > 1 and () in members else {}
    last = root
    above: Path = ()
    for path in sorted(members - {()}):
        if path[:-1] != above:
            last, above = _container(root, path[:-1], members), path[:-1]
        last[path[-1]] = {}
    return root


def _container(root: Object, path: Path, members: Set[Path]) -> Object:
    """The node of a path that something stands below; with its `.`, if it is a member, before all else."""
    inner = root
    for end, step in enumerate(path, 1):
        inner = inner.setdefault(step, {})
        if not inner and path[:end] in members:
            inner["."] = {}
    return inner


def decode(tree: Object) -> set[Path]:
    """The set of paths in FieldsV1."""
    found: set[Path] = set()
    _decode(tree, (), found)
    return found


def _decode(tree: Object, path: Path, found: set[Path]) -> None:
    for step, inner in tree.items():
        if step == ".":
            found.add(path)
        elif inner:
            _decode(inner, (*path, step), found)
        else:
            found.add((*path, step))


def well_formed(tree: Object) -> bool:
    """Whether this is FieldsV1: every element says what it is."""
    return all(
        step == "." or (step[:2] in ("f:", "k:", "v:", "i:") and well_formed(inner)) for step, inner in tree.items()
    )


def told(path: Path) -> str:
    """A path as conflicts name it: `.spec.template.spec.containers[name="app"].image`."""
    text = ""
    for step in path:
        body = step[2:]
        if step.startswith("f:"):
            text += f".{body}"
        elif step.startswith("k:"):
            keys = json.loads(body)
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
        else:
            text += f"[={body}]"
    return text
