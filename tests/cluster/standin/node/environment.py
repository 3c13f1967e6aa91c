"""A container's environment and arguments, as the kubelet makes them from a pod's spec."""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.cluster.standin.controllers.base import Cache

Object = dict[str, Any]
Environment = dict[str, str]


class ConfigError(Exception):
    """A container can't be created as its spec says; the message is what its state says."""


def environment_of(pod: Object, container: Object, cache: Cache) -> Environment:
    """Names and values.

    Raises:
        ConfigError: a Secret, a ConfigMap or a key of it is not there.
    """
    made: Environment = {}
    for source in container.get("envFrom", []):
        made |= _all_of(pod, source, cache)
    for entry in container.get("env", []):
        if "valueFrom" not in entry:
            made[entry["name"]] = expand(entry.get("value", ""), made)
        elif (value := _referred(pod, entry["valueFrom"], cache)) is not None:
            made[entry["name"]] = value
    return made


def expand(text: str, environment: Environment) -> str:
    """`$(NAME)` becomes its value, `$$` becomes `$`, and a name that nobody knows stays as it is."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def _all_of(pod: Object, source: Object, cache: Cache) -> Environment:
    kind, reference = ("Secret", "secretRef") if "secretRef" in source else ("ConfigMap", "configMapRef")
    found = _found(pod, kind, source[reference], cache)
    return {source.get("prefix", "") + name: value for name, value in (found or {}).items()}


def _referred(pod: Object, source: Object, cache: Cache) -> str | None:
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    kind, field = ("Secret", "secretKeyRef") if "secretKeyRef" in source else ("ConfigMap", "configMapKeyRef")
    reference = source.get(field)
    if reference is None:  # resourceFieldRef: nothing here reads it
        return ""
    values = _found(pod, kind, reference, cache)
    if values is not None and reference["key"] in values:
        return values[reference["key"]]
    if reference.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {reference['key']} in {kind} {_namespace(pod)}/{reference['name']}")


def _found(pod: Object, kind: str, reference: Object, cache: Cache) -> Environment | None:
    obj = cache.get(kind, (_namespace(pod), reference["name"]))
    if obj is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    data: Environment = obj.get("data", {})
    if kind == "ConfigMap":
        return data
    return {name: base64.b64decode(value).decode(errors="replace") for name, value in data.items()}


def _namespace(pod: Object) -> str:
    return str(pod["metadata"]["namespace"])


def _field(pod: Object, path: str) -> str:
    """A value of the downward API; what is not there is empty."""
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(found[1], {}).get(found[2], ""))
    value: Any = pod
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)
