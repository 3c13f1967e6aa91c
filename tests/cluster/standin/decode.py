"""From a request's JSON to the object as the server keeps it: types checked, unknown fields named, values in one form.

The real server decodes into structures of Go. What that does to an object can be seen from outside, so it is done here
too: nulls vanish, empty text and empty lists vanish where the structure omits what is empty, `cpu: 1` becomes `"1"`.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tests.cluster.standin import quantities
from tests.cluster.standin.schema import Schema
from tests.cluster.standin.values import Object

# Optional texts that are kept although they are empty: pointers, in the structures.
KEPT_WHEN_EMPTY = {"storageClassName", "ingressClassName", "name", "appProtocol", "volumeName", "kind", "apiVersion"}
KEPT_LISTS = {"rules", "addresses", "containers", "podIPs"}
# Optional numbers and booleans that are left out when 0 or false: plain values, in the structures.
DROPPED_WHEN_ZERO = {
    *("minReadySeconds", "hostPort", "nodePort", "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "weight"),
    *("successThreshold", "failureThreshold", "observedGeneration", "generation", "readyReplicas", "updatedReplicas"),
    *("availableReplicas", "unavailableReplicas", "fullyLabeledReplicas", "active", "succeeded", "failed", "count"),
    *("hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly", "paused", "exitCodeZero"),
    *("publishNotReadyAddresses", "healthCheckNodePort"),
}
JSON_NAMES = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}
PRESENT: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "map": dict,
    "list": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "time": str,
    "bytes": str,
    "quantity": (str, int, float),
    "int-or-string": (str, int),
}


class Undecodable(ValueError):
    """What the server says about a value of the wrong type."""


class Decoder:
    """Decodes one object; `unknown` has the paths of the fields that nobody knows."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def structure(self, schema: Schema, value: Object, path: str = "", *, kept: Object | None = None) -> Object:
        """The fields that the schema knows; of those in `kept`, that value."""
        decoded: Object = {}
        for key, inner in value.items():
            place = f"{path}.{key}" if path else key
            known = schema.fields.get(key)
            if known is None:
                self.unknown.append(place)
            elif kept and key in kept:
                decoded[key] = kept[key]
            elif inner is not None:
                found = self._value(known, inner, place, schema)
                # What holds something is omitted nowhere.
                if found or not _omitted(known, key, found, required=key in schema.required):
                    decoded[key] = found
        return decoded

    def _value(self, schema: Schema, value: Any, path: str, owner: Schema) -> Any:
        kind = schema.kind
        if kind == "any" or (kind == "string" and isinstance(value, str)):
            return value
        fits = isinstance(value, PRESENT[kind])
        if not fits or (isinstance(value, bool) and kind != "boolean") or _too_large(schema, value):
            raise Undecodable(_mistyped(schema, value, path, owner))
        if schema.kind == "object":
            return self.structure(schema, value, path)
        if schema.kind == "map" and schema.item is not None:
            return {key: self._entry(schema.item, inner, path, owner) for key, inner in value.items()}
        if schema.kind == "list" and schema.item is not None:
            return [self._entry(schema.item, inner, f"{path}[{place}]", owner) for place, inner in enumerate(value)]
        return _scalar(schema, value)

    def _entry(self, schema: Schema, value: Any, path: str, owner: Schema) -> Any:
        """An item of a list or map: a null is the type's empty value."""
        if value is None:
            value = {"string": "", "object": {}, "bytes": "", "quantity": "0"}.get(schema.kind)
        return self._value(schema, value, path, owner)


def _omitted(schema: Schema, key: str, value: Any, *, required: bool) -> bool:
    if required:
        return False
    if schema.kind in ("map", "list") and not value:
        return key not in KEPT_LISTS
    if schema.kind == "string" and value == "":
        return key not in KEPT_WHEN_EMPTY
    return not value and key in DROPPED_WHEN_ZERO and schema.kind in ("integer", "boolean")


def _scalar(schema: Schema, value: Any) -> Any:
    if schema.kind == "quantity":
        try:
            return quantities.canonical(value)
        except quantities.BadQuantity as wrong:
            raise Undecodable(str(wrong)) from None
    if schema.kind == "time":
        return _time(value, micro=schema.name == "MicroTime")
    if schema.kind == "bytes":
        return _bytes(value)
    return value


@lru_cache(maxsize=4096)
def _time(value: str, *, micro: bool) -> str:
    try:
        moment = datetime.fromisoformat(re.sub(r"Z$", "+00:00", value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
        raise Undecodable(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"')
    return timestamp(moment, micro=micro)


def timestamp(moment: datetime, *, micro: bool = False) -> str:
    """A moment as the API writes it: whole seconds, or microseconds where the field has them."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _bytes(value: str) -> str:
    cleaned = value.replace("\n", "").replace("\r", "")
    try:
        return base64.b64encode(base64.b64decode(cleaned, validate=True)).decode()
    except (binascii.Error, ValueError):
        bad = re.match(r"[A-Za-z0-9+/]*={0,2}", cleaned)
        raise Undecodable(f"illegal base64 data at input byte {bad.end() if bad else 0}") from None


def _too_large(schema: Schema, value: Any) -> bool:
    if schema.kind != "integer":
        return False
    limit = 2 ** (63 if schema.long else 31)
    return not -limit <= value < limit


def _mistyped(schema: Schema, value: Any, path: str, owner: Schema) -> str:
    told = "number" if isinstance(value, int | float) and not isinstance(value, bool) else JSON_NAMES[type(value)]
    if isinstance(value, float) or (told == "number" and schema.kind == "integer"):
        told = f"number {value}"
    where = re.sub(r"\[\d+\]", "", path)
    return f"json: cannot unmarshal {told} into Go struct field {owner.name}.{where} of type {schema.go_type}"
