"""A template and its values → a Kubernetes object. The only reader of `templates/`.

Nothing that a spec or a request says can become YAML or a template: the environment is sandboxed, an unset name
is an error, and every interpolation is written as JSON, which is YAML. The environment does that itself
(`finalize`), so that no template can forget to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

Manifest = dict[str, Any]

_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same safe loader in C, where PyYAML has it: a tenth of the time."""


def manifest(name: str, values: Mapping[str, Any]) -> Manifest:
    """The object that `templates/<name>.yaml.j2` makes of `values`."""
    text = _environment().get_template(f"{name}.yaml.j2").render(values)
    made: Manifest = yaml.load(text, Loader=_LOADER)  # noqa: S506
    return made


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """The compiled templates; they never change while a process lives."""
    packaged = Path(__file__).parent / "_templates"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent / "templates"
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        finalize=_json,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        autoescape=False,  # that is for HTML; `finalize` escapes for YAML
    )


def _json(value: object) -> str:
    """`value` as JSON that every YAML parser reads as the same value.

    JSON may hold characters that YAML forbids or folds (DEL, NEL, line separators), and JSON's escapes for what
    lies beyond 16 bits are pairs that YAML reads as two characters: so the former are escaped, the latter not.
    """
    if isinstance(value, Undefined):
        return str(value)  # raises, and names what is missing
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return re.sub("[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)
