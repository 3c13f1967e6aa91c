"""Whose fields become ours when another client's object is taken over."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from provider.platforms.kubernetes.takeover import is_ours, migrate
from provider.platforms.kubernetes.transport import MANAGER

Entry = dict[str, Any]


def entry(manager: str, operation: str = "Update", fields: Entry | None = None, **more: Any) -> Entry:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields or {"f:spec": {"f:replicas": {}}},
        **more,
    }


def ours(entries: list[Entry]) -> list[Entry]:
    return [one for one in entries if one["manager"] == MANAGER]


def test_another_clients_fields_become_an_apply_of_ours() -> None:
    (made,) = migrate([entry("node-fetch", fields={"f:spec": {"f:template": {"f:env": {".": {}}}}})], "apps/v1")
    assert made == {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:template": {"f:env": {".": {}}}}},
    }


def test_several_clients_are_merged_with_what_is_ours() -> None:
    before = [
        entry(MANAGER, "Apply", {"f:spec": {"f:a": {}}}, time="2026-01-03T00:00:00Z"),
        entry("bun", "Update", {"f:spec": {"f:a": {}, "f:b": {}}}),
        entry("kubectl", "Apply", {"f:metadata": {"f:labels": {"f:x": {}}}}, time="2026-01-02T00:00:00Z"),
    ]
    (made,) = migrate(before, "apps/v1")
    assert made["fieldsV1"] == {"f:spec": {"f:a": {}, "f:b": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}
    assert made["time"] == "2026-01-02T00:00:00Z"


def test_our_own_update_is_moved_too() -> None:
    """An Update and an Apply of one manager are two owners (server-side apply's rule)."""
    (made,) = migrate([entry(MANAGER, "Update")], "apps/v1")
    assert made["operation"] == "Apply"


@pytest.mark.parametrize(
    "staying",
    [
        entry("kube-controller-manager", fields={"f:metadata": {"f:annotations": {}}}),
        entry("kube-controller-manager", fields={"f:status": {}}, subresource="status"),
        entry("node-fetch", fields={"f:status": {}}, subresource="status"),
        entry("nginx-ingress-controller", fields={"f:status": {}}, subresource="status"),
        entry("cert-manager-ingress-shim"),
    ],
)
def test_controllers_and_subresources_keep_theirs(staying: Entry) -> None:
    entries = migrate([entry("bun"), staying], "apps/v1")
    assert staying in entries
    assert len(ours(entries)) == 1


@pytest.mark.parametrize("entries", [[], [entry(MANAGER, "Apply")], [entry("kube-controller-manager")]])
def test_nothing_to_move_changes_nothing(entries: list[Entry]) -> None:
    assert migrate(entries, "apps/v1") == entries


def test_it_is_done_once() -> None:
    once = migrate([entry("bun"), entry("kube-controller-manager", subresource="status")], "apps/v1")
    assert migrate(once, "apps/v1") == once


def test_what_it_is_given_stays_as_it_is() -> None:
    given = [entry(MANAGER, "Apply", {"f:spec": {"f:a": {}}}), entry("bun", fields={"f:spec": {"f:b": {}}})]
    before = copy.deepcopy(given)
    migrate(given, "apps/v1")
    assert given == before


@pytest.mark.parametrize("labels", [None, {}, {"app.kubernetes.io/managed-by": "helm"}, {"app": MANAGER}])
def test_what_does_not_say_so_is_not_ours(labels: dict[str, str] | None) -> None:
    assert not is_ours({"metadata": {"labels": labels}})
    assert is_ours({"metadata": {"labels": {**(labels or {}), "app.kubernetes.io/managed-by": MANAGER}}})
