"""Conditions: the list in a status in which each type stands once, with the time of its last change."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def condition(obj: Object, kind: str) -> Object | None:
    """The condition of that type in an object's status."""
    return find(obj.get("status", {}).get("conditions", []), kind)


def find(conditions: list[Object], kind: str) -> Object | None:
    """The condition of that type in a list."""
    return next((one for one in conditions if one["type"] == kind), None)


def is_true(obj: Object, kind: str) -> bool:
    """Whether the condition of that type holds."""
    return (condition(obj, kind) or {}).get("status") == "True"


def put(conditions: list[Object], kind: str, holds: bool, now: str, *, reason: str = "", message: str = "") -> Object:
    """Set one condition in the list; its transition time changes only with its status. Returns it."""
    status = "True" if holds else "False"
    known = find(conditions, kind)
    since = known["lastTransitionTime"] if known and known["status"] == status else now
    made: Object = {"type": kind, "status": status, "lastTransitionTime": since}
    made |= {name: text for name, text in (("reason", reason), ("message", message)) if text}
    if known is None:
        conditions.append(made)
        return made
    known.clear()
    known.update(made)
    return known
