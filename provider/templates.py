"""A template and its values → a Kubernetes object. The only reader of `templates/`.

Nothing that a spec or a request says can become YAML or a template: the environment is sandboxed, an unset name is an
error, and what is interpolated never stands in the text. The environment writes a placeholder for it (`finalize`), and
the values are put where those are once the YAML is parsed. So a template's text is the same for every preview of the
same shape, and is parsed once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, Undefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

Manifest = dict[str, Any]

_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same safe loader in C, where PyYAML has it: a tenth of the time."""
_SHAPES = 256
"""Parsed texts that are kept: a spec's number of volumes, probes and hosts makes another one."""
_VALUES = "_interpolated"


def manifest(name: str, values: Mapping[str, Any]) -> Manifest:
    """The object that `templates/<name>.yaml.j2` makes of `values`; it shares nothing with them."""
    interpolated: dict[str, Any] = {}
    text = _environment().get_template(f"{name}.yaml.j2").render({**values, _VALUES: interpolated})
    made: Manifest = _filled(_parsed(text), interpolated)
    return made


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """The compiled templates; they never change while a process lives."""
    packaged = Path(__file__).parent / "_templates"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent / "templates"
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        finalize=_placeholder,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        autoescape=False,  # that is for HTML; here no value is written into the text
    )


@pass_context
def _placeholder(context: Context, value: object) -> str:
    """A plain scalar of YAML that stands for the value, which is kept as the JSON data that it is."""
    if isinstance(value, Undefined):
        return str(value)  # raises, and names what is missing
    interpolated = context[_VALUES]
    written = f"<{len(interpolated)}>"
    interpolated[written] = json.loads(json.dumps(value, allow_nan=False))
    return written


@lru_cache(maxsize=_SHAPES)
def _parsed(text: str) -> Any:
    """What a template's text says, placeholders and all; not to be changed."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506


def _filled(data: Any, values: Mapping[str, Any]) -> Any:
    """A copy of parsed data with the values in their places."""
    if isinstance(data, dict):
        return {_filled(key, values): _filled(value, values) for key, value in data.items()}
    if isinstance(data, list):
        return [_filled(item, values) for item in data]
    return values.get(data, data) if isinstance(data, str) else data
