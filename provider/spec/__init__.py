"""Everything about `.x1agent/preview.yaml`: grammar, loader, JSON Schema.

yaml_text   text → plain data, safely        fields, quantities   kinds of values
grammar     the models                       rules, unknown       what a model cannot see
loader      all of it, in order              problems, mistakes   how a mistake is told
"""

from provider.spec.grammar import (
    SELF_URL,
    SHARE_BASE_URL,
    Body,
    Dependency,
    Entrypoint,
    EnvVar,
    Healthcheck,
    Ingress,
    Limits,
    Metadata,
    Requests,
    Resources,
    Runtime,
    Spec,
    Volume,
)
from provider.spec.loader import SMALLEST_SPEC, SPEC_PATH, Loaded, check_supported, load, secret_refs
from provider.spec.schema import json_schema
from provider.spec.yaml_text import MAX_SPEC_BYTES

__all__ = [
    "MAX_SPEC_BYTES",
    "SELF_URL",
    "SHARE_BASE_URL",
    "SMALLEST_SPEC",
    "SPEC_PATH",
    "Body",
    "Dependency",
    "Entrypoint",
    "EnvVar",
    "Healthcheck",
    "Ingress",
    "Limits",
    "Loaded",
    "Metadata",
    "Requests",
    "Resources",
    "Runtime",
    "Spec",
    "Volume",
    "check_supported",
    "json_schema",
    "load",
    "secret_refs",
]
