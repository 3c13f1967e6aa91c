"""What fields of the spec must be to each other.

The rules look at the file's plain data, not at the models, so that a mistake in one place never hides
another: whoever has twenty mistakes is told of twenty. Data of a wrong shape is skipped here, because
the grammar reports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from provider.spec import grammar, quantities
from provider.spec.problems import Path, Problem, did_you_mean, nearest, shorten
from provider.spec.yaml_text import scalar_text

_DEPENDENCY = re.compile(r"dep:([0-9]{1,4})\.([A-Za-z_]{1,32})")
_LEAST_MEMORY = 4 << 20
"""Container runtimes refuse less."""


def problems(data: Any, extra_env_names: frozenset[str]) -> Iterator[Problem]:
    """Every broken rule. `extra_env_names` are variables that the request brings, whatever the file says of them."""
    env = list(_mappings(data, "spec", "env"))
    yield from _repeated("name", env)
    yield from _env_sources(env, extra_env_names)
    yield from _dependency_references(env, _at(data, "spec", "dependencies"))
    volumes = list(_mappings(data, "spec", "volumes"))
    yield from _repeated("name", volumes)
    yield from _repeated("mountPath", volumes, _normal_path)
    yield from _requests_above_limits(data)
    yield from _repeated_headers(_at(data, "spec", "ingress", "additionalHeaders"))


def warnings(data: Any) -> Iterator[Problem]:
    """What is allowed, but does nothing or is hardly meant."""
    entrypoint: Path = ("spec", "entrypoint")
    kind = _at(data, *entrypoint, "kind")
    if kind in ("kustomize", "manifest") and _at(data, *entrypoint, "args") is not None:
        yield Problem((*entrypoint, "args"), f"is ignored: kind {kind} takes no args")
    if kind != "dockerfile" and _at(data, *entrypoint, "buildContext") is not None:
        yield Problem((*entrypoint, "buildContext"), "is ignored: only kind dockerfile has a build context")
    for path, dependency in _mappings(data, "spec", "dependencies"):
        if dependency.get("name") is not None and dependency.get("kind") in ("postgres", "redis"):
            yield Problem((*path, "name"), "is ignored: only kind mcp has a name")
    yield from _tiny_memory(data)


def _env_sources(env: list[tuple[Path, dict[str, Any]]], extra_env_names: frozenset[str]) -> Iterator[Problem]:
    for path, entry in env:
        value, source = entry.get("value"), entry.get("from")
        satisfied = isinstance(name := entry.get("name"), str) and name in extra_env_names
        if value is None and source is None and not satisfied:
            yield Problem(path, 'has no source; allowed: `value` ("" for an empty one) or `from`')
        elif source == "literal" and value is None:
            yield Problem((*path, "from"), "found literal without a `value`; allowed: literal with `value`")
        elif value is not None and source is not None and source != "literal":
            yield Problem(path, "has both `value` and `from`; allowed: one of them (or `from: literal` with `value`)")


def _dependency_references(env: list[tuple[Path, dict[str, Any]]], dependencies: Any) -> Iterator[Problem]:
    dependencies = dependencies if isinstance(dependencies, list) else []
    for path, entry in env:
        match = _DEPENDENCY.fullmatch(source) if isinstance(source := entry.get("from"), str) else None
        if match is None:
            continue
        index, wanted = int(match[1]), match[2]
        if index >= len(dependencies):
            known = f"dep:0 to dep:{len(dependencies) - 1}" if dependencies else "none, spec.dependencies is empty"
            yield Problem(
                (*path, "from"), f"found {shorten(match[0])}, but there is no such dependency; allowed: {known}"
            )
            continue
        dependency = dependencies[index]
        kind = dependency.get("kind") if isinstance(dependency, dict) else None
        fields = grammar.DEPENDENCY_FIELDS.get(kind) if isinstance(kind, str) else None
        if fields and wanted not in fields:
            what = f"found {shorten(match[0])}; allowed for {kind}: {', '.join(fields)}"
            yield Problem((*path, "from"), what + did_you_mean(nearest(wanted, fields)))


def _requests_above_limits(data: Any) -> Iterator[Problem]:
    for name in ("cpu", "memory"):
        request, limit = (_quantity(data, part, name) for part in ("requests", "limits"))
        if request is not None and limit is not None and request[1] > limit[1]:
            path: Path = ("spec", "resources", "requests", name)
            yield Problem(path, f"found {request[0]}; allowed: at most spec.resources.limits.{name}, {limit[0]}")


def _tiny_memory(data: Any) -> Iterator[Problem]:
    for part in ("requests", "limits"):
        found = _quantity(data, part, "memory")
        if found and 0 < found[1] < _LEAST_MEMORY:
            path: Path = ("spec", "resources", part, "memory")
            meant = did_you_mean(f"{found[0]}Mi" if found[0].isdigit() else None)
            yield Problem(path, f"is {found[1].normalize():f} bytes, too few for a container{meant}")


def _quantity(data: Any, part: str, name: str) -> tuple[str, Any] | None:
    text = scalar_text(_at(data, "spec", "resources", part, name))
    number = quantities.amount(text) if text is not None else None
    return (text, number) if text is not None and number is not None else None


def _repeated(
    name: str, entries: list[tuple[Path, dict[str, Any]]], normal: Callable[[str], str] = str
) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for path, entry in entries:
        value = entry.get(name)
        if not isinstance(value, str):
            continue
        before = first.setdefault(normal(value), f"{path[-2]}[{path[-1]}]")
        if before != f"{path[-2]}[{path[-1]}]":
            yield Problem((*path, name), f"found {shorten(value)}, which spec.{before} has already; allowed: each once")


def _repeated_headers(headers: Any) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for name in headers if isinstance(headers, dict) else ():
        before = first.setdefault(name.lower(), name)
        if before != name:
            path: Path = ("spec", "ingress", "additionalHeaders", name)
            yield Problem(path, f"is the same header as {shorten(before)}; allowed: each once, case does not count")


def _normal_path(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _at(data: Any, *path: str | int) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _mappings(data: Any, *path: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    entries = _at(data, *path)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield (*path, index), entry
