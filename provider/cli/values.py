"""Parsers of options that hold more than one value can say: pairs, secrets, checks, files."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from provider.cli.options import check_value, wrong
from provider.cli.output import clean


def read_text(option: str, path: Path) -> str:
    """A file's text, `-` being stdin. Raises a usage error if it cannot be read."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise typer.BadParameter(f"cannot read {clean(path)}: {cause}", param_hint=f"'{option}'") from None


def parse_env(values: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping."""
    from provider.models import EnvName

    pairs = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise wrong("--env", text, "NAME=VALUE")
        check_value("--env", name, EnvName, "a name of letters, digits and _, before the =")
        pairs[name] = value
    return pairs


def parse_secrets(values: Iterable[str], file: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets of the file and of `NAME=VALUE` or `NAME` options; an option wins. No value is ever shown."""
    pairs = _secrets_of_file(file) if file else {}
    for text in values:
        name, equals, value = text.partition("=")
        _check_secret_name("--secret", name)
        if not equals and name not in environ:
            message = f"{name} is not in the environment; allowed: NAME=VALUE, or NAME of an environment variable"
            raise typer.BadParameter(message, param_hint="'--secret'")
        pairs[name] = value if equals else environ[name]
    return pairs


def _check_secret_name(option: str, name: str) -> None:
    from provider.models import SecretName

    check_value(option, name, SecretName, "a name of letters, digits and _, 64 at most, before the =")


def _secrets_of_file(path: Path) -> dict[str, str]:
    """A JSON object of strings, or `NAME=VALUE` lines taken literally."""
    option = "--secrets-file"
    text = read_text(option, path)
    pairs = _json_secrets(option, text) if text.lstrip().startswith("{") else _line_secrets(option, text)
    for name in pairs:
        _check_secret_name(option, name)
    return pairs


def _json_secrets(option: str, text: str) -> dict[str, str]:
    allowed = "a JSON object of strings"
    try:
        pairs: dict[str, str] = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 0)
        raise typer.BadParameter(f"line {line} is not JSON; allowed: {allowed}", param_hint=f"'{option}'") from None
    bad = [clean(name) for name, value in pairs.items() if not isinstance(value, str)]
    if bad:
        message = f"not a string: {', '.join(bad)}; allowed: {allowed}"
        raise typer.BadParameter(message, param_hint=f"'{option}'")
    return pairs


def _line_secrets(option: str, text: str) -> dict[str, str]:
    pairs = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            message = f"line {number} is not NAME=VALUE; a value of several lines needs a JSON file"
            raise typer.BadParameter(message, param_hint=f"'{option}'")
        pairs[name.strip()] = value
    return pairs


def parse_checks(checks: Iterable[str], file: Path | None) -> list[dict[str, Any]]:
    """Acceptance checks of `--check /path[=status]` options and of a JSON file, validated."""
    found = _checks_of_file(file) if file else []
    for text in checks:
        path, status = _split_check(text)
        found.append({"path": path} if status is None else {"path": path, "status": status})
    return found


def _split_check(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(/[^\s\x00-\x1f\x7f]*?)(?:=([1-5][0-9]{2}))?", text)
    if not match:
        raise wrong("--check", text, "/path or /path=STATUS, like /healthz=200")
    return match[1], int(match[2]) if match[2] else None


def _checks_of_file(path: Path) -> list[dict[str, Any]]:
    """The acceptance list of a JSON file, as the contract has it."""
    from pydantic import TypeAdapter, ValidationError

    from provider.models import AcceptanceCheck

    text = read_text("--acceptance", path)
    try:
        found = TypeAdapter(list[AcceptanceCheck]).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"{clean(path)}: {clean(where)}: {clean(first['msg'])}; allowed: a JSON list of acceptance checks"
        raise typer.BadParameter(message, param_hint="'--acceptance'") from None
    return [check.model_dump(mode="json", by_alias=True, exclude_unset=True) for check in found]
