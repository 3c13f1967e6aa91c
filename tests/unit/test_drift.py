"""What somebody took from us shows in managedFields: by field, by item of a list, by value of a set."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from provider.platforms.kubernetes.drift import lost, own_fields

BODY: dict[str, Any] = yaml.safe_load("""
apiVersion: apps/v1
kind: Deployment
metadata:
  name: my-app
  namespace: previews
  labels: {app: my-app}
  annotations: {}
  ownerReferences:
    - {apiVersion: v1, kind: ConfigMap, name: my-app.anchor, uid: u1}
  finalizers: [not-ours-to-look-at]
spec:
  replicas: 1
  selector: {matchLabels: {app: my-app}}
  template:
    spec:
      containers:
        - name: app
          image: i
          ports: [{containerPort: 8080, protocol: TCP}]
          env: [{name: A, value: "1"}, {name: B, value: "2"}]
          volumeMounts: []
      volumes: [{name: data, emptyDir: {}}]
""")

FIELDS: dict[str, Any] = yaml.safe_load("""
f:metadata:
  f:labels: {"f:app": {}}
  f:annotations: {}
  f:ownerReferences: {'k:{"uid":"u1"}': {}}
f:spec:
  f:replicas: {}
  f:selector: {}
  f:template:
    f:spec:
      f:containers:
        'k:{"name":"app"}':
          .: {}
          f:name: {}
          f:image: {}
          f:ports:
            'k:{"containerPort":8080,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}}
          f:env:
            'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}
            'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}}
      f:volumes:
        'k:{"name":"data"}': {".": {}, "f:name": {}, "f:emptyDir": {}}
""")

CONTAINER = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"app"}')
TAKEN = [
    (("f:spec", "f:replicas"), "spec.replicas"),
    (("f:spec", "f:selector"), "spec.selector"),
    (("f:metadata", "f:labels", "f:app"), "metadata.labels"),
    (("f:metadata", "f:ownerReferences", 'k:{"uid":"u1"}'), "metadata.ownerReferences"),
    ((*CONTAINER, "f:image"), "spec.template.spec.containers[app].image"),
    ((*CONTAINER, "f:env", 'k:{"name":"B"}'), "spec.template.spec.containers[app].env[B]"),
    ((*CONTAINER, "f:env", 'k:{"name":"B"}', "f:value"), "spec.template.spec.containers[app].env[B].value"),
    (("f:spec", "f:template", "f:spec", "f:volumes", 'k:{"name":"data"}'), "spec.template.spec.volumes"),
    (("f:spec",), "spec"),
]


def without(fields: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """FieldsV1 as the server leaves it when somebody else changes that: what is left empty goes, too."""
    first, *rest = path
    others = {key: value for key, value in fields.items() if key != first}
    inner = without(fields[first], tuple(rest)) if rest else {}
    return {**others, first: inner} if inner else others


def test_what_is_as_it_was_applied_lacks_nothing() -> None:
    assert lost(BODY, FIELDS) == []


@pytest.mark.parametrize(("path", "named"), TAKEN)
def test_what_somebody_took_is_named(path: tuple[str, ...], named: str) -> None:
    assert lost(BODY, without(FIELDS, path)) == [named]


def test_what_others_own_beside_us_is_left_alone() -> None:
    more = {**FIELDS, "f:status": {}, "f:spec": {**FIELDS["f:spec"], "f:paused": {}}}
    assert lost(BODY, more) == []


def test_a_member_of_a_set_is_found_by_its_value() -> None:
    body = {"metadata": {}, "spec": {"finalizers": ["a", "b"]}}
    assert lost(body, {"f:spec": {"f:finalizers": {'v:"a"': {}, 'v:"b"': {}}}}) == []
    assert lost(body, {"f:spec": {"f:finalizers": {'v:"a"': {}}}}) == ["spec.finalizers[b]"]


def test_our_own_applies_alone_count() -> None:
    ours = {"manager": "x1-preview-provider", "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    updated = {**ours, "operation": "Update", "fieldsV1": {"f:data": {}}}
    status = {**ours, "subresource": "status", "fieldsV1": {"f:status": {}}}
    kubectl = {**ours, "manager": "kubectl-edit"}
    assert own_fields([kubectl, updated, status, ours]) == '{"f:spec": {}}'
    assert own_fields([kubectl, updated, status]) == ""


def test_what_is_applied_empty_is_owned_by_nobody() -> None:
    assert lost({"metadata": {}, "spec": {"env": [], "labels": {}}}, {"f:spec": {}}) == []
    assert lost({"metadata": {}, "spec": {"env": []}}, {"f:metadata": {}}) == ["spec"]
