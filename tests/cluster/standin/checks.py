"""The words of a refused field, and the checks that several kinds share."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from tests.cluster.standin import names
from tests.cluster.standin.names import Check
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, items, mapping

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"


def required(path: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", path)


def invalid(path: str, value: Any, why: str) -> Cause:
    shown = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", path)


def unsupported(path: str, value: Any, allowed: Iterable[str]) -> Cause:
    told = ", ".join(f'"{each}"' for each in sorted(allowed))
    return Cause("FieldValueNotSupported", f"Unsupported value: {json.dumps(value)}: supported values: {told}", path)


def forbidden(path: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", path)


def duplicate(path: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {json.dumps(value, separators=(',', ':'))}", path)


def unknown(path: str, value: str) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {json.dumps(value)}", path)


def too_long(path: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", path)


def named(check: Check, path: str, value: str) -> list[Cause]:
    """What a check of a name says about a value."""
    return [invalid(path, value, why) for why in said(check, value)]


@lru_cache(maxsize=8192)
def said(check: Check, value: str) -> tuple[str, ...]:
    """The same without a path; the same names are checked again and again."""
    return tuple(check(value))


def must_name(check: Check, path: str, value: str | None) -> list[Cause]:
    return named(check, path, value) if value else [required(path)]


def one_of(path: str, value: Any, allowed: Iterable[str]) -> list[Cause]:
    """An enumerated field; absent is fine."""
    return [] if value is None or value in allowed else [unsupported(path, value, allowed)]


def at_least(path: str, value: int | None, least: int) -> list[Cause]:
    if value is None or value >= least:
        return []
    why = NOT_NEGATIVE if least == 0 else f"must be greater than or equal to {least}"
    return [invalid(path, value, why)]


def immutable(path: str, old: Any, new: Any) -> list[Cause]:
    return [] if old == new else [invalid(path, new, IMMUTABLE)]


def label_map(path: str, value: Object) -> list[Cause]:
    wrong = []
    for key, text in value.items():
        wrong += named(names.qualified_name, path, key)
        wrong += named(names.label_value, path, text)
    return wrong


def annotation_map(path: str, value: Object) -> list[Cause]:
    wrong = []
    for key in value:
        wrong += [invalid(path, key, why) for why in said(names.qualified_name, key.lower())]
    size = sum(len(key.encode()) + len(text.encode()) for key, text in value.items())
    return [*wrong, *([too_long(path, 256 * 1024)] if size > 256 * 1024 else [])]


ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def address(path: str, value: str) -> list[Cause]:
    return [] if is_address(value) else [invalid(path, value, ADDRESS)]


def label_selector(path: str, selector: Object) -> list[Cause]:
    """A LabelSelector object."""
    wrong = label_map(f"{path}.matchLabels", mapping(selector, "matchLabels"))
    for index, term in enumerate(items(selector, "matchExpressions")):
        place = f"{path}.matchExpressions[{index}]"
        operator, values = term.get("operator"), term.get("values") or []
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            wrong.append(invalid(f"{place}.operator", operator or "", "not a valid selector operator"))
        if operator in ("In", "NotIn") and not values:
            wrong.append(required(f"{place}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        if operator in ("Exists", "DoesNotExist") and values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            wrong.append(forbidden(f"{place}.values", why))
        wrong += named(names.qualified_name, f"{place}.key", term.get("key", ""))
        for number, value in enumerate(values):
            wrong += named(names.label_value, f"{place}.values[{number}]", value)
    return wrong


def port(path: str, value: int | str | None) -> list[Cause]:
    """A port by number or by name."""
    if isinstance(value, str):
        return named(names.port_name, path, value)
    return [] if value is not None and 1 <= value <= 65535 else [invalid(path, value or 0, PORT_RANGE)]


def port_number(path: str, value: int | None) -> list[Cause]:
    return [invalid(path, value or 0, PORT_RANGE)] if not value or not 1 <= value <= 65535 else []


PORT_RANGE = "must be between 1 and 65535, inclusive"
