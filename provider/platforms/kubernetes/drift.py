"""What of a preview at rest is not as it was applied: seen by the shared watches, without a request.

Whoever changes or removes a field takes it from the manager that applied it: so an edit shows in `managedFields`,
whatever the field and its form (a quantity comes back in other words than it was sent; kubernetes.io, "Server-Side
Apply", "Field management"). What others add beside our fields is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from provider import names
from provider.models import Revision
from provider.platforms.base import Drift
from provider.platforms.kubernetes import objects
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.resources import SECRETS, SERVICES, Resource
from provider.platforms.kubernetes.transport import MANAGER
from provider.platforms.kubernetes.watches import Watches
from provider.settings import Settings

NAMED = ("labels", "annotations", "ownerReferences")
"""What we apply of an object's metadata, beside its name."""
MOST_KNOWN = 10_000
"""Previews that are remembered as well."""


class Comparison:
    """Compares what the watches show with what a revision applies."""

    def __init__(self, *, api: Api, watches: Watches, settings: Settings) -> None:
        self._api = api
        self._watches = watches
        self._settings = settings
        self._well: dict[str, tuple[str, ...]] = {}
        for resource in objects.ORDER:
            watches.of(resource).fields_of = own_fields

    async def of(self, slug: str, revision: Revision) -> Drift | None:
        """What is to be put back of this revision, which is at rest; None when all is as it was applied."""
        seen = self._seen(slug, revision)
        if self._well.get(slug) == seen:
            return None  # what was well when it was looked at is so while it has the same versions
        what = tuple(self._differences(slug, revision))
        lost = await self._is_lost(revision)
        if what or lost is not None:
            self._well.pop(slug, None)
            return Drift(what, lost)
        self._well[slug] = seen
        while len(self._well) > MOST_KNOWN:
            self._well.pop(next(iter(self._well)))
        return None

    def _seen(self, slug: str, revision: Revision) -> tuple[str, ...]:
        """Which revision is compared with which versions of what objects."""
        found = [one for resource in (*objects.ORDER, SECRETS) for one in self._watches.of(resource).of(slug)]
        versions = sorted(one["metadata"]["uid"] + one["metadata"]["resourceVersion"] for one in found)
        return (revision.deploy_id, str(revision.generation), *versions)

    def _differences(self, slug: str, revision: Revision) -> Iterator[str]:
        anchor = self._watches.anchors.get(names.anchor(slug))
        if anchor is None:
            yield f"configmap/{names.anchor(slug)} deleted"
        mark = objects.mark_of(revision)
        for resource, body in objects.objects(revision, self._settings):
            found = self._difference(resource, body, mark, revision.generation, anchor)
            if found:
                yield f"{resource.kind.lower()}/{body['metadata']['name']} {found}"

    def _difference(self, resource: Resource, body: Object, mark: str, generation: int, anchor: Object | None) -> str:
        cache, name = self._watches.of(resource), body["metadata"]["name"]
        present = cache.get(name)
        if present is None:
            return "deleted"
        if "deletionTimestamp" in present["metadata"]:
            return ""  # it is looked at again when it is gone
        if not objects.is_marked(present, mark):
            return "replaced"
        if anchor is None:
            return ""  # what its end does to this one shows soon
        metadata = anchor["metadata"]
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}
        if owner["uid"] not in {one["uid"] for one in present["metadata"].get("ownerReferences", [])}:
            return "taken from its anchor"
        fields = cache.fields(name)
        if fields == cache.applied_fields(name):
            return ""
        if resource is SERVICES:
            body = objects.over_present(body, present)
        edited = lost(objects.owned(body, owner, generation, ""), json.loads(fields or "{}"))
        return f"edited: {', '.join(edited)}" if edited else ""

    async def _is_lost(self, revision: Revision) -> str | None:
        """The name of the revision's bundle, if that is gone; asked of the cluster before it is believed."""
        if revision.bundle is None or self._watches.secrets.get(revision.bundle.name) is not None:
            return None
        return revision.bundle.name if await self._api.get(SECRETS, revision.bundle.name) is None else None


def own_fields(managed: list[Object]) -> str:
    """From `managedFields`, what our applies own, as JSON; "" when that is nothing."""
    for entry in managed:
        if (entry["manager"], entry["operation"], entry.get("subresource")) == (MANAGER, "Apply", None):
            return json.dumps(entry.get("fieldsV1") or {}, sort_keys=True)
    return ""


def lost(body: Object, fields: Object) -> list[str]:
    """The paths of what we apply by `body` and do not own any more.

    Args:
        body: as it is applied.
        fields: FieldsV1 of our applies.
    """
    metadata = {key: body["metadata"][key] for key in NAMED if key in body["metadata"]}
    told = {"metadata": metadata} if metadata else {}
    told |= {key: value for key, value in body.items() if key not in {"apiVersion", "kind", "metadata"}}
    return list(_lost(told, fields, ""))


def _lost(value: Any, fields: Object, path: str) -> Iterator[str]:
    if not fields:
        return  # a scalar, or owned as a whole
    if isinstance(value, dict):
        for key, inner in value.items():
            node = fields.get(f"f:{key}")
            if node is None and inner in ([], {}):
                continue  # an empty list or map is nothing that could be owned: the API server leaves it out
            if node is None:
                yield f"{path}.{key}".lstrip(".")
            else:
                yield from _lost(inner, node, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            node = _item(item, fields)
            if node is None:
                yield f"{path}[{_shown(item)}]".lstrip(".")
            else:
                yield from _lost(item, node, f"{path}[{_shown(item)}]")


def _item(item: Any, fields: Object) -> Object | None:
    """The node of a list's item: lists are merged by some of their items' fields, or by value."""
    for key, node in fields.items():
        kind, _, text = key.partition(":")
        if kind == "v" and json.loads(text) == item:
            return dict(node)
        if kind == "k" and isinstance(item, dict) and json.loads(text).items() <= item.items():
            return dict(node)
    return None


def _shown(item: Any) -> str:
    return str(item.get("name") or next(iter(item.values()), "")) if isinstance(item, dict) else str(item)
