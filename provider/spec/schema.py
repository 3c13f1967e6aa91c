"""The grammar as JSON Schema, for editors (`# yaml-language-server: $schema=…`)."""

from __future__ import annotations

from typing import Any

import yaml

from provider.spec.grammar import Spec
from provider.spec.loader import SMALLEST_SPEC, SPEC_PATH

SCHEMA_ID = "https://x1agent.io/schemas/preview-spec/v1.json"


def json_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12.

    Unknown fields are not forbidden, because the platform ignores them too: a newer file must not turn red in
    an older editor. What fields must be to each other is only said as far as a schema can say it.
    """
    schema = Spec.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": f"Preview spec ({SPEC_PATH})",
        "$comment": "Unknown fields are warnings; errors with STRICT_SPEC=true and in `preview validate --strict`.",
        "examples": [yaml.safe_load(SMALLEST_SPEC)],
    }
