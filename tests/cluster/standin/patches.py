"""JSON patch, JSON merge patch and strategic merge patch, as functions from object to object."""

from __future__ import annotations

from typing import Any

from tests.cluster.standin.schema import Schema
from tests.cluster.standin.status import ApiError, bad_request
from tests.cluster.standin.values import clone

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


def rejected() -> ApiError:
    """What a well-formed patch answers that does not fit the object; why it does not is kept to itself."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message)


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    result = clone(target)
    for operation in operations:
        result = _operate(result, operation)
    return result


def _operate(document: Any, operation: Any) -> Any:
    try:
        kind, path = operation["op"], _pointer(operation["path"])
        if kind in ("move", "copy"):
            source = _pointer(operation["from"])
            value = clone(_get(document, source))
            document = _remove(document, source) if kind == "move" else document
            return _add(document, path, value)
        if kind == "add":
            return _add(document, path, operation["value"])
        if kind == "remove":
            return _remove(document, path)
        if kind == "replace":
            return _set(document, path, operation["value"])  # a missing name is no hindrance to the real one
        if kind == "test":
            return _tested(document, path, operation.get("value"))
    except (KeyError, IndexError, TypeError, ValueError):
        raise rejected() from None
    raise rejected()


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(text)
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _get(document: Any, path: list[str]) -> Any:
    for step in path:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _set(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        parent[int(path[-1])] = value
    else:
        parent[path[-1]] = value
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if path and isinstance(parent := _get(document, path[:-1]), list):
        index = len(parent) if path[-1] == "-" else int(path[-1])
        if not 0 <= index <= len(parent):
            raise IndexError(f"Unable to access invalid index: {index}")
        parent.insert(index, value)
        return document
    return _set(document, path, value)


def _remove(document: Any, path: list[str]) -> Any:
    parent = _get(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return document


def _tested(document: Any, path: list[str], value: Any) -> Any:
    if _get(document, path) != value:
        raise rejected()
    return document


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_patch(schema: Schema, target: Any, patch: Any) -> Any:
    """As a merge patch, but lists that have a key are merged item by item; `$patch` may replace or delete."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        inner = schema.fields.get(key) or schema.item or Schema("any")
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif inner.keys and isinstance(value, list):
            result[key] = _merged_items(inner, result.get(key) or [], value)
        else:
            result[key] = strategic_patch(inner, result.get(key), value)
    return result


def _merged_items(schema: Schema, target: list[Any], patch: list[Any]) -> list[Any]:
    key = schema.keys[0]
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = {item.get(key): item for item in target}
    for item in patch:
        if item.get("$patch") == "delete":
            result.pop(item.get(key), None)
        else:
            result[item.get(key)] = strategic_patch(schema.item or Schema("any"), result.get(item.get(key)), item)
    return list(result.values())
