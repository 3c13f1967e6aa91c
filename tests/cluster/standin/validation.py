"""What an object of each kind must look like, and what an update must not change."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.standin.resources import Resource
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object

Rule = Callable[[Object], list[Cause]]
UpdateRule = Callable[[Object, Object], list[Cause]]


def validate(resource: Resource, obj: Object) -> list[Cause]:
    """Every wrong field of an object."""
    return []


def validate_update(resource: Resource, old: Object, new: Object, subresource: str | None) -> list[Cause]:
    """Every field that this update must not change."""
    return []
