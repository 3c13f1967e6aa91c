"""Specs as text, with something changed, and the mistakes that are found in them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from provider import spec
from provider.errors import Code, Permanent


def base() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(spec.SMALLEST_SPEC)
    return data


def put(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`data` with `value` at the dotted path; a name that ends in `[]` is a list's first item."""
    at: Any = data
    *parents, last = path.split(".")
    for name in parents:
        at = at.setdefault(name, {}) if not name.endswith("[]") else at.setdefault(name[:-2], [{}])[0]
    at[last] = value
    return data


def text_of(**changes: Any) -> str:
    data = base()
    for path, value in changes.items():
        put(data, path, value)
    return yaml.safe_dump(data)


def with_(path: str, value: Any) -> str:
    return text_of(**{path: value})


def mistakes(text: str, **options: Any) -> tuple[str, ...]:
    with pytest.raises(Permanent) as caught:
        spec.load(text, **options)
    assert caught.value.code is Code.INVALID_PREVIEW_SPEC
    assert caught.value.hint
    assert caught.value.evidence
    assert all(len(line.splitlines()) == 1 for line in caught.value.evidence)
    return caught.value.evidence


def the_mistake(text: str, **options: Any) -> str:
    lines = mistakes(text, **options)
    assert len(lines) == 1, lines
    return lines[0]


def env(*entries: dict[str, Any], **rest: Any) -> str:
    return text_of(**{"spec.env": list(entries), **rest})
