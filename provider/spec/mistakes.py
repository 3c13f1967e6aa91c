"""What pydantic says is wrong with a file → problems that say where, what was found and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from provider.spec import fields, grammar, unknown
from provider.spec.problems import Path, Problem, did_you_mean, found, nearest
from provider.spec.yaml_text import Document

M = TypeVar("M", bound=BaseModel)

_SHAPES = {"model_type": "a mapping", "model_attributes_type": "a mapping", "dict_type": "a mapping"}
_SHAPES |= {"tuple_type": "a list", "bool_type": "true or false, without quotes"}


def validated(model: type[M], data: dict[str, Any], unknown_fields: list[Problem]) -> tuple[M | None, list[Problem]]:
    """The model that `data` is, or None and every mistake of a single field; `unknown_fields` may be mistyped ones."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_mistake(model, one, unknown_fields) for one in error.errors(include_url=False)]


def not_ignored(unknown_fields: Iterable[Problem]) -> list[Problem]:
    """The same unknown fields where they are errors."""
    return [replace(one, what=one.what.replace("is unknown and ignored", "is unknown")) for one in unknown_fields]


def in_order(problems: list[Problem], document: Document) -> list[Problem]:
    """The problems with their lines, from top to bottom; a missing field stands where its mapping begins."""
    placed = [one if one.line else replace(one, line=_line(one.path, document.lines)) for one in problems]
    return sorted(dict.fromkeys(placed), key=lambda one: one.line or 0)


def _mistake(model: type[BaseModel], error: ErrorDetails, unknown_fields: list[Problem]) -> Problem:
    path, value, allowed = error["loc"], error["input"], _allowed(error)
    if path[-1:] == ("[key]",):
        return Problem(path[:-1], f"found the name {found(value)}; allowed: {allowed}")
    if error["type"] == "missing":
        beside = [str(one.path[-1]) for one in unknown_fields if one.path[:-1] == path[:-1]]
        info = unknown.field_at(path, model)
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


def _line(path: Path, lines: dict[Path, int]) -> int | None:
    ancestors: Iterator[Path] = (path[:end] for end in range(len(path), -1, -1))
    return next((lines[one] for one in ancestors if one in lines), None)
