"""core/v1 Events as controllers write them: equal ones are counted, not repeated."""

from __future__ import annotations

import secrets
from typing import Any

from tests.cluster.standin.clock import Clock
from tests.cluster.standin.store import ApiError, Store

Object = dict[str, Any]
LOST = (403, 404, 409)
"""A namespace that goes away takes no events: real components only log that."""
_Series = tuple[str, str, str, str]


class EventRecorder:
    """Writes the events of all components."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._names: dict[_Series, str] = {}

    def normal(self, about: Object, reason: str, message: str, *, by: str, field: str = "") -> None:
        """Something went as it should."""
        self._record("Normal", about, reason, message, by, field)

    def warning(self, about: Object, reason: str, message: str, *, by: str, field: str = "") -> None:
        """Something did not."""
        self._record("Warning", about, reason, message, by, field)

    def _record(self, kind: str, about: Object, reason: str, message: str, by: str, field: str) -> None:
        series = (about["metadata"]["uid"], reason, message, field)
        try:
            if not self._counted(series, about["metadata"].get("namespace", "default")):
                made = self._store.create(self._event(kind, about, reason, message, by, field), manager=by)
                self._names[series] = made["metadata"]["name"]
        except ApiError as error:
            if error.code not in LOST:
                raise
            self._names.pop(series, None)

    def _counted(self, series: _Series, namespace: str) -> bool:
        name = self._names.get(series)
        if name is None:
            return False
        try:
            event = self._store.get("Event", namespace, name)
        except ApiError:
            return False
        event["count"] += 1
        event["lastTimestamp"] = self._clock.stamp()
        self._store.update(event, manager=event["source"]["component"])
        return True

    def _event(self, kind: str, about: Object, reason: str, message: str, by: str, field: str) -> Object:
        metadata, now = about["metadata"], self._clock.stamp()
        involved = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{secrets.token_hex(8)}",
                "namespace": metadata.get("namespace", "default"),
            },
            "involvedObject": {**involved, **({"fieldPath": field} if field else {})},
            "reason": reason,
            "message": message,
            "source": {"component": by},
            "reportingComponent": by,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
        }
