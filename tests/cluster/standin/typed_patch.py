"""What an applied configuration has to be before anything else: of the kind's type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cluster.standin.fieldsets import ANY, element, merged_list, told
from tests.cluster.standin.metadata import about
from tests.cluster.standin.resources import Resource
from tests.cluster.standin.schema import KEY_DEFAULTS, Schema, schema_for
from tests.cluster.standin.status import bad_request, internal
from tests.cluster.standin.values import Object

GO = {str: "string", bool: "bool", int: "int64", float: "float64", dict: "map[string]interface {}"}
GO[list] = "[]interface {}"


def check(resource: Resource, config: Object) -> None:
    """ApiError 400 for the wrong version, 500 (a plain error, as the real server has it) for untyped fields."""
    if config.get("apiVersion") != resource.api_version:
        expected = f"expected: {resource.api_version}"
        raise bad_request(
            "Incorrect version specified in apply patch. "
            f"Specified patch version: {config.get('apiVersion', '')}, {expected}"
        )
    if config.get("kind") != resource.kind:
        group = resource.group
        raise bad_request(f"invalid object type: {group}/{resource.version}, Kind={config.get('kind', '')}")
    if (config.get("metadata") or {}).get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    wrong = [f"{path}: {what}" for path, what in _wrong(schema_for(resource.model), config, "")]
    if wrong:
        listed = wrong[0] if len(wrong) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in wrong)
        raise internal(f"failed to create typed patch object ({about(resource, config)}): {listed}")


def _wrong(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if value is None or schema.kind == "any":
        return
    if schema.kind in ("object", "map"):
        yield from _mapping(schema, value, path)
    elif schema.kind == "list":
        yield from _list(schema, value, path)
    elif told := _wrong_scalar(schema.kind, value):
        yield path, told


def _wrong_scalar(kind: str, value: Any) -> str:
    found = GO[type(value)]
    if kind in ("integer", "number"):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if fits else f"expected numeric (int or float), got {found}"
    if kind == "boolean":
        return "" if isinstance(value, bool) else f"expected boolean, got {found}"
    if kind in ("string", "time", "bytes"):
        return "" if isinstance(value, str) else f"expected string, got &value.valueUnstructured{{Value:{value}}}"
    return f"expected scalar, got {found}" if isinstance(value, dict | list) else ""


def _mapping(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield path, f"expected map, got &{{{value}}}"
        return
    for key, inner in value.items():
        known = schema.fields.get(key) if schema.kind == "object" else schema.item
        if known is None:
            yield f"{path}.{key}", "field not declared in schema"
        else:
            yield from _wrong(known, inner, f"{path}.{key}")


def _list(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, list):
        yield path, f"expected list, got &{{{value}}}"
        return
    seen = set()
    for index, inner in enumerate(value):
        place = f"{path}[{index}]"
        if merged_list(schema):
            if schema.merge == "keys" and not isinstance(inner, dict):
                yield path, f"element {index}: associative list with keys may not have non-map elements"
                continue
            missing = _missing_key(schema, inner)
            if missing:
                why = f"element {index}: associative list with keys has an element that omits key field {missing}"
                yield path, f"{why} (and doesn't have default value)"
                continue
            step = element(schema, inner)
            if step in seen:
                yield path, f"duplicate entries for key {told((step,))}"
            seen.add(step)
            place = f"{path}{told((step,))}"
        yield from _wrong(schema.item or ANY, inner, place)


def _missing_key(schema: Schema, item: Any) -> str:
    if schema.merge != "keys" or not isinstance(item, dict):
        return ""
    missing = [key for key in schema.keys if item.get(key) is None and key not in KEY_DEFAULTS]
    return f'"{missing[0]}"' if missing else ""
