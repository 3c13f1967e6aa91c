"""Bodies of requests: read, parsed, and checked as strictly as the request wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.cluster.standin.decode import Decoder, Undecodable
from tests.cluster.standin.metadata import cannot_handle
from tests.cluster.standin.resources import BY_KIND, Resource
from tests.cluster.standin.schema import schema_for
from tests.cluster.standin.status import bad_request, unsupported_media_type
from tests.cluster.standin.values import Object

CONSUMED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
SCHEME = "pkg/api/legacyscheme/scheme.go:30"


class Doubled(dict[str, Any]):
    """A JSON object in which a name stood twice."""

    names: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = []
    for name, value in pairs:
        if name in found:
            names.append(name)
        found[name] = _over(found.get(name), value)
    return _doubled(found, *names) if names else found


def _over(first: Any, second: Any) -> Any:
    """What stands twice is filled in twice: the second time only lays itself over a structure or a map."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second
    return _doubled({**first, **second}, *getattr(first, "names", ()), *getattr(second, "names", ()))


def _doubled(found: dict[str, Any], *names: str) -> Doubled:
    result = Doubled(found)
    result.names = tuple(dict.fromkeys(names))
    return result


def parse(text: bytes, content_type: str) -> Any:
    """The value in a body; ApiError 400 or 415."""
    kind = content_type.partition(";")[0].strip() or "application/json"
    try:
        if kind == "application/json":
            return json.loads(text, object_pairs_hook=_pairs)
        if kind == "application/yaml":
            return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as wrong:
        raise bad_request(f"error decoding the body: {wrong}") from None
    raise unsupported_media_type(CONSUMED)


def doubled(value: Any, path: str = "") -> Iterator[str]:
    """The paths of names that stood twice."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from doubled(inner, f"{path}.{key}" if path else key)
        if isinstance(value, Doubled):
            yield from (f"{path}.{name}" if path else name for name in value.names)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from doubled(inner, f"{path}[{index}]")


def applied(text: bytes) -> tuple[Object, list[str]]:
    """An applied configuration, and what is said about names that stand twice in it; ApiError 400."""
    try:
        if text[:1] == b"{":
            value = json.loads(text, object_pairs_hook=_pairs)
            twice = [path.rpartition(".")[2] for path in doubled(value)]
            told = [f'line 1: key "{name}" already set in map' for name in twice]
        else:
            value = yaml.safe_load(text)
            told = list(_doubled_nodes(yaml.compose(text, yaml.SafeLoader)))
    except (ValueError, yaml.YAMLError) as wrong:
        raise bad_request(f"error decoding YAML: {wrong}") from None
    if not isinstance(value, dict):
        why = "json: cannot unmarshal into Go value of type map[string]interface {}"
        raise bad_request(f"error decoding YAML: {why}")
    return value, told


def _doubled_nodes(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, inner in node.value:
            if key.value in seen:
                yield f'line {key.start_mark.line + 1}: key "{key.value}" already set in map'
            seen.add(key.value)
            yield from _doubled_nodes(inner)
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _doubled_nodes(inner)


def typed(resource: Resource, value: Any, validation: str) -> tuple[Object, list[str]]:
    """An object of the kind that the path names, and warnings about fields that nobody knows."""
    if not isinstance(value, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {resource.kind})")
    _of_kind(resource, value)
    decoder = Decoder()
    try:
        decoded = decoder.structure(schema_for(resource.model), value)
    except Undecodable as wrong:
        raise bad_request(cannot_handle(resource, str(wrong))) from None
    strange = [f'duplicate field "{path}"' for path in doubled(value)]
    strange += [f'unknown field "{path}"' for path in decoder.unknown]
    if strange and validation == "Strict":
        raise bad_request(cannot_handle(resource, f"strict decoding error: {', '.join(strange)}"))
    decoded.update(apiVersion=resource.api_version, kind=resource.kind)
    return decoded, strange if validation == "Warn" else []


def _of_kind(resource: Resource, value: Object) -> None:
    version = value.get("apiVersion") or resource.api_version
    kind = value.get("kind") or resource.kind
    if not isinstance(version, str) or not isinstance(kind, str):
        raise bad_request("couldn't get version/kind; json parse error: apiVersion and kind must be strings")
    if version == resource.api_version and kind == resource.kind:
        return
    served = BY_KIND.get(kind)
    if served is None or served.api_version != version:
        why = f'no kind "{kind}" is registered for version "{version}" in scheme "{SCHEME}"'
        short = version.rpartition("/")[2]
        raise bad_request(f'{kind} in version "{short}" cannot be handled as a {resource.kind}: {why}')
    if version != resource.api_version:
        told = f"the API version in the data ({version}) does not match the expected API version"
        raise bad_request(f"{told} ({resource.api_version})")
    why = f"converting ({served.version}.{kind}) to ({resource.group or 'core'}.{resource.kind}): unknown conversion"
    raise bad_request(f'{kind} in version "{served.version}" cannot be handled as a {resource.kind}: {why}')
