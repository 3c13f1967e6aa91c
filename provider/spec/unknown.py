"""Fields that the grammar does not know, and what they were probably meant to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from provider.spec.grammar import Spec
from provider.spec.problems import Path, Problem, dotted, nearest


def unknown_fields(data: Any, grammar: type[BaseModel] = Spec) -> list[Problem]:
    """One problem for each field of the file that means nothing."""
    everywhere = {str(path[-1]): dotted(path) for path in _paths(grammar, ())}
    return [Problem(path, _what(str(path[-1]), siblings, everywhere)) for path, siblings in _walk(data, grammar, ())]


def field_at(path: Path, grammar: type[BaseModel] = Spec) -> FieldInfo | None:
    """The grammar's field at `path`, whatever the list indexes."""
    model: type[BaseModel] | None = grammar
    info: FieldInfo | None = None
    for name in path:
        if isinstance(name, int):
            continue
        info = _fields(model).get(name) if model else None
        model = _model_in(info.annotation) if info else None
    return info


def _what(name: str, siblings: list[str], everywhere: dict[str, str]) -> str:
    if meant := nearest(name, siblings):
        return f"is unknown and ignored; did you mean `{meant}`?"
    # A known field in the wrong place is as common a slip as a mistyped one.
    if meant := nearest(name, everywhere):
        return f"is unknown and ignored; did you mean `{everywhere[meant]}`?"
    return f"is unknown and ignored; known here: {', '.join(siblings)}"


def _walk(data: Any, model: type[BaseModel], path: Path) -> Iterator[tuple[Path, list[str]]]:
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from _walk(item, model, (*path, index))
    if not isinstance(data, dict):
        return
    fields = _fields(model)
    for name, value in data.items():
        if name not in fields:
            yield (*path, name), list(fields)
        elif inner := _model_in(fields[name].annotation):
            yield from _walk(value, inner, (*path, name))


def _paths(model: type[BaseModel], path: Path) -> Iterator[Path]:
    for name, info in _fields(model).items():
        yield (*path, name)
        # Only a mapping's fields: items of a list have no fixed place to point to.
        if isinstance(info.annotation, type) and (inner := _model_in(info.annotation)):
            yield from _paths(inner, (*path, name))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model_in(part))), None)
