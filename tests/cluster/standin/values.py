"""JSON values: the type of objects, and a copy that is much quicker than `copy.deepcopy`."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import Any, TypeVar

Object = dict[str, Any]
T = TypeVar("T")


def clone(value: T) -> T:
    """A deep copy of what JSON can say, in which nothing stands twice.

    A busy cluster mostly copies; by way of bytes that takes a third of the time. The first version of the format
    knows no references.
    """
    try:
        copied: T = marshal.loads(marshal.dumps(value, 0))  # type: ignore[arg-type]
    except ValueError:  # some value is of a type of its own
        return _clone(value)
    return copied


def _clone(value: T) -> T:
    if isinstance(value, dict):
        return {key: _clone(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_clone(item) for item in value]  # type: ignore[return-value]
    return value


def at(value: Mapping[str, Any] | None, *path: str) -> Any:
    """What stands below `path`, or None where the path ends early."""
    found: Any = value
    for step in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


def items(value: Mapping[str, Any] | None, *path: str) -> list[Any]:
    """The list below `path`; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, list) else []


def mapping(value: Mapping[str, Any] | None, *path: str) -> Object:
    """The mapping below `path`; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, dict) else {}
