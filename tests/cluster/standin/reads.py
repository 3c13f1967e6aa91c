"""GET and LIST: one object, or a page of a list that stays as it was when its first page was read."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from tests.cluster.standin.requests import Asked, number, one_of, partial_view
from tests.cluster.standin.resources import Resource
from tests.cluster.standin.selectors import Matcher, field_matcher, label_matcher
from tests.cluster.standin.status import Cause, bad_request, expired, internal, invalid, too_large_version
from tests.cluster.standin.storage import Storage
from tests.cluster.standin.store import Store
from tests.cluster.standin.values import Object

TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def get(store: Store, resource: Resource, asked: Asked) -> Object:
    found = store.find(resource, asked.namespace or None, asked.name)
    check_version(store.storage, asked)
    return partial_view(found) if asked.partial else found


def list_page(store: Store, resource: Resource, asked: Asked) -> Object:
    """A list, or the page of it that `limit` and `continue` ask for."""
    matcher, namespace = matcher_for(resource, asked), asked.namespace or None
    storage = store.storage
    if asked.query.get("continue"):
        if asked.query.get("resourceVersion"):
            raise bad_request("specifying resource version is not allowed when using continue")
        version, start = _continued(storage, asked.query["continue"])
        found = [obj for obj in storage.scan_at(resource, namespace, version) if _place(obj) >= start]
    else:
        check_version(storage, asked)
        exact = asked.query.get("resourceVersionMatch") == "Exact"
        version = int(asked.query["resourceVersion"]) if exact else storage.version
        found = storage.scan_at(resource, namespace, version)
    found = [obj for obj in found if matcher(obj)]
    metadata: Object = {"resourceVersion": str(version)}
    limit = number(asked.query, "limit")
    if limit and len(found) > limit:
        metadata["continue"] = _token(version, _place(found[limit]))
        if not (asked.query.get("labelSelector") or asked.query.get("fieldSelector")):
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return _list(resource, asked, found, metadata)


def _list(resource: Resource, asked: Asked, found: list[Object], metadata: Object) -> Object:
    if asked.partial:
        items = [partial_view(obj) for obj in found]
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": items,
        }
    bare = [{key: value for key, value in obj.items() if key not in ("kind", "apiVersion")} for obj in found]
    return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": bare}


def matcher_for(resource: Resource, asked: Asked) -> Matcher:
    """Whether an object is selected by the request's selectors, and by its name where the path has one."""
    tests: list[Matcher] = []
    if labels := asked.query.get("labelSelector"):
        tests.append(label_matcher(labels))
    if fields := asked.query.get("fieldSelector"):
        tests.append(field_matcher(fields, resource.kind))
    if asked.name:
        tests.append(lambda obj: bool(obj["metadata"]["name"] == asked.name))
    return lambda obj: all(test(obj) for test in tests)


def check_version(storage: Storage, asked: Asked) -> None:
    """ApiError for a resourceVersion that is no number, was never reached, or (match Exact) is forgotten."""
    text = asked.query.get("resourceVersion", "")
    _check_match(asked, text)
    if not text:
        return
    if not text.isdigit():
        told = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise (
            internal(f"resourceVersion: {told}")
            if asked.verb == "watch"
            else bad_request(f"invalid resource version: {told}")
        )
    version = int(text)
    if version > storage.version and asked.verb != "watch":  # a watch just waits
        raise too_large_version(version, storage.version)
    if asked.query.get("resourceVersionMatch") == "Exact" and version < storage.floor:
        raise expired(f"The resourceVersion for the provided list is too old: {version} ({storage.floor})")


def _check_match(asked: Asked, version: str) -> None:
    match = asked.query.get("resourceVersionMatch", "")
    wrong = one_of(match, ("Exact", "NotOlderThan", ""), "resourceVersionMatch")
    if match and not version and asked.verb == "list":
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        wrong.append(Cause("FieldValueForbidden", why, "resourceVersionMatch"))
    if wrong:
        raise invalid("meta.k8s.io", "ListOptions", "", wrong)


def _place(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def _token(version: int, start: str) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _continued(storage: Storage, token: str) -> tuple[int, str]:
    """The version and the place at which a list goes on; ApiError 410 with a token for the rest as it is now."""
    try:
        said: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = int(said["rv"]), str(said["start"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise bad_request("continue key is not valid: encoded version is not supported") from None
    if version < 0:
        return storage.version, start
    if version < storage.floor:
        refused = expired(TOO_OLD)
        refused.status["metadata"] = {"continue": _token(-1, start)}
        raise refused
    return version, start
