"""Roles and bindings."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.standin import names
from tests.cluster.standin.checks import invalid, must_name, required, unsupported
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, items, mapping

GROUP = "rbac.authorization.k8s.io"


def _role(obj: Object) -> list[Cause]:
    wrong = []
    for index, rule in enumerate(items(obj, "rules")):
        wrong += _rule(f"rules[{index}]", rule, namespaced=obj["kind"] == "Role")
    return wrong


def _rule(path: str, rule: Object, *, namespaced: bool) -> list[Cause]:
    wrong = []
    if not rule.get("verbs"):
        wrong.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = items(rule, "nonResourceURLs")
    if urls:
        if namespaced:
            wrong.append(invalid(f"{path}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            why = "rules cannot apply to both regular resources and non-resource URLs"
            wrong.append(invalid(f"{path}.nonResourceURLs", urls, why))
        return wrong
    if not rule.get("apiGroups"):
        wrong.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        wrong.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return wrong


def _binding(obj: Object) -> list[Cause]:
    reference = mapping(obj, "roleRef")
    wrong = []
    if reference.get("apiGroup") != GROUP:
        wrong.append(unsupported("roleRef.apiGroup", reference.get("apiGroup", ""), (GROUP,)))
    kinds = ("Role", "ClusterRole") if obj["kind"] == "RoleBinding" else ("ClusterRole",)
    if reference.get("kind") not in kinds:
        wrong.append(unsupported("roleRef.kind", reference.get("kind", ""), kinds))
    wrong += must_name(names.path_segment, "roleRef.name", reference.get("name"))
    for index, subject in enumerate(items(obj, "subjects")):
        wrong += _subject(f"subjects[{index}]", subject, namespaced=obj["kind"] == "RoleBinding")
    return wrong


def _subject(path: str, subject: Object, *, namespaced: bool) -> list[Cause]:
    wrong = []
    if not subject.get("name"):
        wrong.append(required(f"{path}.name"))
    kind, group = subject.get("kind"), subject.get("apiGroup", "")
    if kind == "ServiceAccount":
        if subject.get("name"):
            wrong += must_name(names.dns_subdomain, f"{path}.name", subject["name"])
        if group:
            wrong.append(unsupported(f"{path}.apiGroup", group, ("",)))
        if not subject.get("namespace") and not namespaced:  # else it is the binding's own
            wrong.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            wrong.append(unsupported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        wrong.append(unsupported(f"{path}.kind", kind or "", ("Group", "ServiceAccount", "User")))
    return wrong


def _same_role(old: Object, new: Object) -> list[Cause]:
    if old["roleRef"] == new["roleRef"]:
        return []
    return [invalid("roleRef", new["roleRef"], "cannot change roleRef")]


RULES: dict[str, Callable[[Object], list[Cause]]] = {
    "Role": _role,
    "ClusterRole": _role,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}
UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "RoleBinding": _same_role,
    "ClusterRoleBinding": _same_role,
}
