"""Records as bytes: JSON with a version; what a newer provider wrote is left alone."""

from __future__ import annotations

import json
from typing import TypeVar

import structlog
from pydantic import ValidationError
from pydantic_core import from_json

from provider.errors import Code, Permanent
from provider.models import RECORD_VERSION, DeployRecord, LineRecord, PreviewOutline, PreviewRecord
from provider.store.kv import Entry

log = structlog.get_logger(__name__)

Record = TypeVar("Record", PreviewOutline, PreviewRecord, DeployRecord, LineRecord)


def encode(record: PreviewRecord | DeployRecord | LineRecord) -> bytes:
    """A record as it is stored."""
    return record.model_dump_json(by_alias=True).encode()


def stamp(platform_id: str) -> bytes:
    """What stands in a key that says nothing but whose it is."""
    return json.dumps({"platform_id": platform_id}).encode()


def decode(entry: Entry, model: type[Record]) -> Record:
    """A stored record. Raises `Permanent` for one that cannot be read, or that a newer provider wrote."""
    try:
        version = from_json(entry.value)["version"]
        if version > RECORD_VERSION:
            log.error("store.newer_record", key=entry.key, version=version, known=RECORD_VERSION)
            raise Permanent(
                Code.INTERNAL_ERROR,
                f"{entry.key} was written by a newer provider (version {version}); it is left alone.",
                reason="NewerRecord",
                hint="Run one version of the provider.",
            )
        return model.model_validate_json(entry.value)
    except (ValidationError, ValueError, LookupError, TypeError) as error:
        # Which fields, but not what stands in them.
        fields = [detail["loc"] for detail in error.errors()] if isinstance(error, ValidationError) else []
        log.error("store.unreadable_record", key=entry.key, error=type(error).__name__, fields=fields)
        raise Permanent(
            Code.INTERNAL_ERROR,
            f"{entry.key} is not a readable record.",
            reason="UnreadableRecord",
            hint="A provider of another version may have written it: run one version on a bus, or remove that key.",
        ) from None
