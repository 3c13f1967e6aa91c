"""Text of `.x1agent/preview.yaml` → `Spec`, or every mistake of it at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from provider.errors import Code, Permanent
from provider.spec import fields, grammar, rules, unknown, yaml_text
from provider.spec.grammar import Spec
from provider.spec.problems import Path, Problem, did_you_mean, found, nearest
from provider.spec.yaml_text import Document, Refused

SPEC_PATH = ".x1agent/preview.yaml"
SMALLEST_SPEC = """\
apiVersion: x1agent.io/v1
kind: PreviewSpec
metadata: {name: my-app}
spec:
  entrypoint: {kind: dockerfile, path: ./Dockerfile}
  runtime: {port: 3000}
"""
_LINES_KEPT = 200
"""Bounds the reply of a file that is nothing but mistakes."""

_SHAPES = {"model_type": "a mapping", "model_attributes_type": "a mapping", "dict_type": "a mapping"}
_SHAPES |= {"tuple_type": "a list", "bool_type": "true or false, without quotes"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec, and what its author may want to know all the same."""

    spec: Spec
    warnings: tuple[str, ...] = ()


@lru_cache(maxsize=32)
def load(text: str, *, strict: bool = False, extra_env_names: frozenset[str] = frozenset()) -> Loaded:
    """Read the spec. Each phase of a deploy asks anew, so the last ones are remembered: what is returned is frozen.

    Args:
        text: the file's content.
        strict: unknown fields are errors, not warnings.
        extra_env_names: names of the request's `extra_env`; an entry of that name needs no source of its own.

    Raises:
        Permanent: `invalid_preview_spec`; `evidence` has one line for each mistake, in the file's order.
    """
    try:
        document = yaml_text.read(text)
    except Refused as refused:
        raise _invalid([refused.problem], "Write a file such as this smallest one:\n" + SMALLEST_SPEC) from None
    if not isinstance(document.data, dict):
        problem = Problem(
            (), f"holds {found(document.data)}; allowed: a mapping with apiVersion, kind, metadata and spec"
        )
        raise _invalid([problem], "Write a file such as this smallest one:\n" + SMALLEST_SPEC)
    unknown_fields = unknown.unknown_fields(document.data)
    spec, mistakes = _validate(document.data, unknown_fields)
    problems = [*document.problems, *mistakes, *rules.problems(document.data, extra_env_names)]
    if strict:
        problems += [
            replace(one, what=one.what.replace("is unknown and ignored", "is unknown")) for one in unknown_fields
        ]
    if problems or spec is None:
        hint = (
            f"Correct every line of the evidence in {SPEC_PATH}; `preview validate` checks the file without a deploy."
        )
        raise _invalid(_in_order(problems, document), hint)
    remarks = [*([] if strict else unknown_fields), *rules.warnings(document.data)]
    return Loaded(spec, tuple(str(remark) for remark in _in_order(remarks, document))[:_LINES_KEPT])


def secret_refs(spec: Spec, extra_env_names: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Names of the secrets that the spec refers to, each once, without what `extra_env` satisfies."""
    wanted = (entry.secret for entry in spec.body.env if entry.name not in extra_env_names)
    return tuple(dict.fromkeys(name for name in wanted if name is not None))


def check_supported(spec: Spec) -> None:
    """Refuse what is valid, but cannot be deployed yet.

    Raises:
        Permanent: `unsupported_entrypoint` or `unsupported_feature`; every such field is named in `evidence`.
    """
    entrypoint, runtime = spec.body.entrypoint, spec.body.runtime
    lines = []
    if entrypoint.kind != "dockerfile":
        lines.append(f"spec.entrypoint.kind: found {entrypoint.kind}; supported: dockerfile")
    if spec.body.dependencies:
        lines.append("spec.dependencies: not supported yet; give addresses of services by spec.env or `extra_env`")
    if runtime.protocol == "tcp":
        lines.append("spec.runtime.protocol: found tcp; supported: http, http2")
    if not lines:
        return
    code = Code.UNSUPPORTED_FEATURE if entrypoint.kind == "dockerfile" else Code.UNSUPPORTED_ENTRYPOINT
    hint = f"Change {SPEC_PATH} to what is supported."
    raise Permanent(code, f"{SPEC_PATH} is valid, but {'; '.join(lines)}.", hint=hint, evidence=tuple(lines))


def _validate(data: dict[str, Any], unknown_fields: list[Problem]) -> tuple[Spec | None, list[Problem]]:
    try:
        return Spec.model_validate(data), []
    except ValidationError as error:
        return None, [_mistake(one, unknown_fields) for one in error.errors(include_url=False)]


def _mistake(error: ErrorDetails, unknown_fields: list[Problem]) -> Problem:
    path, value, allowed = error["loc"], error["input"], _allowed(error)
    if path[-1:] == ("[key]",):
        return Problem(path[:-1], f"found the name {found(value)}; allowed: {allowed}")
    if error["type"] == "missing":
        beside = [str(one.path[-1]) for one in unknown_fields if one.path[:-1] == path[:-1]]
        info = unknown.field_at(path)
        meant = nearest(str(path[-1]), beside)
        mistyped = f" Is `{meant}` meant to be it?" if meant else ""
        return Problem(path, f"is missing. {info.description if info else ''}{mistyped}")
    return Problem(path, f"found {found(value)}; allowed: {allowed}{did_you_mean(_near(error, path))}")


def _allowed(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == fields.NOT_ALLOWED:
        return str(context["allowed"])
    if error["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    return _SHAPES.get(error["type"], error["msg"])


def _near(error: ErrorDetails, path: Path) -> str | None:
    """The known word that a mistyped enum value or source was meant to be."""
    value = error["input"]
    if not isinstance(value, str):
        return None
    if error["type"] == "literal_error":
        return nearest(value, re.findall(r"'([^']*)'", error.get("ctx", {})["expected"]))
    if path[-1] != "from":
        return None
    word, colon, name = value.partition(":")
    if not colon:
        return nearest(value, grammar.FROM_FORMS)
    known = nearest(word, ("secret", "dep"))
    return f"{known}:{name}" if known and re.fullmatch(grammar.FROM, f"{known}:{name}") else None


def _in_order(problems: list[Problem], document: Document) -> list[Problem]:
    """The problems with their lines, from top to bottom; a missing field stands where its mapping begins."""
    placed = [one if one.line else replace(one, line=_line(one.path, document.lines)) for one in problems]
    return sorted(dict.fromkeys(placed), key=lambda one: one.line or 0)


def _line(path: Path, lines: dict[Path, int]) -> int | None:
    ancestors: Iterator[Path] = (path[:end] for end in range(len(path), -1, -1))
    return next((lines[one] for one in ancestors if one in lines), None)


def _invalid(problems: list[Problem], hint: str) -> Permanent:
    count = len(problems)
    first = "; ".join(str(one) for one in problems[:3])
    rest = f"; and {count - 3} more" if count > 3 else ""
    evidence = [str(one) for one in problems[:_LINES_KEPT]]
    if count > _LINES_KEPT:
        evidence.append(f"… and {count - _LINES_KEPT} more")
    message = f"{SPEC_PATH} has {count} mistake{'s' if count != 1 else ''}: {first}{rest}"
    return Permanent(Code.INVALID_PREVIEW_SPEC, message, hint=hint, evidence=tuple(evidence))
