"""Label and field selectors, as text in a query and as objects in a spec."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.cluster.standin import names
from tests.cluster.standin.status import bad_request
from tests.cluster.standin.values import Object, at, items, mapping

Matcher = Callable[[Object], bool]

# Beside metadata.name and metadata.namespace, which every kind can be selected by.
FIELDS: dict[str, tuple[str, ...]] = {
    "Pod": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
        *("status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    "Event": (
        *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid"),
        *("involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath"),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
    "Job": ("status.successful",),
    "ReplicaSet": ("status.replicas",),
    "Node": ("spec.unschedulable",),
    "Service": ("spec.clusterIP", "spec.type"),
}


@dataclass(frozen=True)
class Requirement:
    key: str
    operator: str  # in, notin, exists, !exists, gt, lt
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "exists":
            return value is not None
        if self.operator == "!exists":
            return value is None
        if self.operator == "notin":
            return value not in self.values
        if self.operator in ("gt", "lt"):
            return value is not None and _beyond(value, self.operator, next(iter(self.values)))
        return value in self.values


def _beyond(value: str, operator: str, limit: str) -> bool:
    """Whether a label's number is larger or smaller; text is neither."""
    if not re.fullmatch(r"-?\d+", value):
        return False
    return int(value) > int(limit) if operator == "gt" else int(value) < int(limit)


_TERM = re.compile(
    r"\s*(?:(?P<not>!)\s*(?P<absent>[^\s,=!<>()]+)"
    r"|(?P<key>[^\s,=!<>()]+)(?:\s*(?P<equals>==|=|!=|<|>)\s*(?P<value>[^\s,=!()]*)"
    r"|\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)


OPERATORS = {"!=": "notin", ">": "gt", "<": "lt"}


def parse_labels(text: str) -> list[Requirement]:
    """`a=b,c!=d,e in (f,g),!h,i`; ApiError 400 for what is none."""
    wanted, position = [], 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or term.end() == position:
            raise bad_request(f"unable to parse requirement: found '{text[position:]}', expected: identifier")
        wanted.append(_checked(_requirement(term)))
        position = term.end()
    return wanted


def _requirement(term: re.Match[str]) -> Requirement:
    if term["not"]:
        return Requirement(term["absent"], "!exists")
    if term["set"]:
        return Requirement(term["key"], term["set"], frozenset(value.strip() for value in term["values"].split(",")))
    if term["equals"]:
        return Requirement(term["key"], OPERATORS.get(term["equals"], "in"), frozenset([term["value"]]))
    return Requirement(term["key"], "exists")


def _checked(requirement: Requirement) -> Requirement:
    if wrong := names.qualified_name(requirement.key):
        raise bad_request(f'unable to parse requirement: <nil>: Invalid value: "{requirement.key}": {wrong[0]}')
    for value in sorted(requirement.values):
        if requirement.operator in ("gt", "lt") and not re.fullmatch(r"-?\d+", value):
            told = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise bad_request(f'unable to parse requirement: values[0]: Invalid value: "{value}": {told}')
        if wrong := names.label_value(value):
            place = f'unable to parse requirement: values[0][{requirement.key}]: Invalid value: "{value}"'
            raise bad_request(f"{place}: {wrong[0]}")
    return requirement


def label_matcher(text: str) -> Matcher:
    wanted = parse_labels(text)
    return lambda obj: all(requirement.holds(mapping(obj, "metadata", "labels")) for requirement in wanted)


def field_matcher(text: str, kind: str) -> Matcher:
    """`metadata.name=x,status.phase!=Running`; ApiError 400 for a field that the kind can't be selected by."""
    known = ("metadata.name", "metadata.namespace", *FIELDS.get(kind, ()))
    wanted: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        if found[1] not in known:
            if kind in FIELDS:
                raise bad_request(f"field label not supported: {found[1]}")
            told = f'"{found[1]}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            raise bad_request(told)
        wanted.append((found[1], found[2] != "!=", found[3]))
    return lambda obj: all((_field(obj, path) == value) is equal for path, equal, value in wanted)


def _field(obj: Object, path: str) -> str:
    if path == "source":
        return str(at(obj, "source", "component") or at(obj, "reportingComponent") or "")
    if path == "status.successful":
        path = "status.succeeded"
    value = at(obj, *path.split("."))
    if isinstance(value, bool):
        return str(value).lower()
    missing = {"spec.hostNetwork": "false", "spec.unschedulable": "false", "status.succeeded": "0"}
    return str(value) if value is not None else missing.get(path, "")


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector object selects these labels: absent selects nothing, empty everything."""
    if selector is None:
        return False
    equal = all(labels.get(key) == value for key, value in mapping(selector, "matchLabels").items())
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!exists"}
    return equal and all(
        Requirement(term["key"], operators[term["operator"]], frozenset(term.get("values") or ())).holds(labels)
        for term in items(selector, "matchExpressions")
    )
