"""What stands on whatever runs a revision, so that a preview whose record was lost can get one again.

A note is a label's or an annotation's value: compressed JSON, some 2 kB. No secret is in it: a revision has none.
"""

from __future__ import annotations

import base64
import zlib

import structlog
from pydantic import ValidationError

from provider import render
from provider.models import Revision

log = structlog.get_logger(__name__)

NOTE = render.PREFIX + "revision"
MOST_BYTES = 1 << 20


def write(revision: Revision) -> str | None:
    """The note of a revision; None for one of an older provider, which does not say where it came from."""
    if revision.origin is None:
        return None
    return base64.b64encode(zlib.compress(revision.model_dump_json().encode())).decode()


def read(text: str) -> Revision | None:
    """The revision that a note is of; None where there is no note that can be read."""
    if not text:
        return None
    try:
        found = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), MOST_BYTES)
        revision = Revision.model_validate_json(found)
    except (ValueError, ValidationError, zlib.error) as error:
        log.warning("note.unreadable", error=type(error).__name__)
        return None
    return revision if revision.origin is not None else None
