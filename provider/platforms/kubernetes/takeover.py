"""Objects that another client made, the platform's present provider first of all, become ours.

Server-side apply leaves alone what other managers own. What a client set by create or replace, and we do not set,
would so stay for ever (environment entries, annotations). So its ownership is moved to our manager first, as an
apply's, and the next apply drops what we do not set (kubernetes.io, "Migrating to server-side apply").
"""

from __future__ import annotations

import copy
from typing import Any

from provider import render
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.refusals import Refused, refused
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.transport import MANAGER
from provider.platforms.kubernetes.watches import label

CONTROLLERS = ("kube-controller-manager", "nginx-ingress-controller", "traefik", "cert-manager-ingress-shim")
"""Managers whose fields stay theirs."""


def is_ours(found: Object) -> bool:
    """Whether we applied the object before."""
    return label(found, "app.kubernetes.io/managed-by") == render.MANAGED_BY


async def take_over(api: Api, resource: Resource, name: str) -> str | None:
    """Move the ownership of an object's fields to us; returns its version then, None if it is gone."""
    present = await api.get(resource, name)
    if present is None:
        return None
    metadata = present["metadata"]
    version = str(metadata["resourceVersion"])
    fields = metadata.get("managedFields", [])
    migrated = migrate(fields, present["apiVersion"])
    if migrated == fields:
        return version
    operations: list[Object] = [
        {"op": "replace", "path": "/metadata/managedFields", "value": migrated},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    try:
        return str((await api.edit(resource, name, operations))["metadata"]["resourceVersion"])
    except Refused as error:
        raise refused(error, f"{resource.kind} {name}") from error


def migrate(entries: list[Object], api_version: str) -> list[Object]:
    """`managedFields` with every other client's entry merged into one of ours.

    Entries of subresources (status) and of controllers stay as they are.
    """
    moving = [entry for entry in entries if _moves(entry)]
    if not moving:
        return entries
    own = [entry for entry in entries if _is_own(entry)]
    merged: Object = {}
    for entry in (*own, *moving):
        _merge(merged, copy.deepcopy(entry["fieldsV1"]))
    staying = [entry for entry in entries if not _moves(entry) and not _is_own(entry)]
    made = {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": merged,
        "time": max(str(entry.get("time", "")) for entry in moving) or None,
    }
    return [*staying, {key: value for key, value in made.items() if value is not None}]


def _moves(entry: Object) -> bool:
    other = entry["manager"] not in CONTROLLERS and not _is_own(entry)
    return other and not entry.get("subresource")


def _is_own(entry: Object) -> bool:
    return bool(entry["manager"] == MANAGER and entry["operation"] == "Apply" and not entry.get("subresource"))


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        _merge(into.setdefault(key, {}), value)
