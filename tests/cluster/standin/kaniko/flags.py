"""Kaniko's command line, read as pflag does: an unknown flag or a wrong value ends the program with its usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

STRINGS = frozenset(
    {
        *("bucket", "cache-dir", "cache-repo", "context", "context-sub-path", "custom-platform", "digest-file"),
        *("dockerfile", "image-format", "image-name-with-digest-file", "image-name-tag-with-digest-file"),
        *("kaniko-dir", "oci-layout-path", "snapshot-mode", "tar-path", "compression", "cache-ttl", "git"),
        *("log-format", "verbosity"),
    }
)
LISTS = frozenset(
    {
        *("annotation", "build-arg", "credential-helpers", "destination", "ignore-path", "insecure-registry", "label"),
        *("registry-certificate", "registry-client-cert", "registry-map", "registry-mirror", "secret"),
        *("skip-tls-verify-registry", "target"),
    }
)
NUMBERS = frozenset({"compression-level", "image-download-retry", "image-fs-extract-retry", "push-retry"})
SWITCHES = frozenset(
    {
        *("cache", "cache-copy-layers", "cache-run-layers", "cleanup", "compressed-caching", "dryrun", "force"),
        *("force-build-metadata", "ignore-var-run", "insecure", "insecure-pull", "log-timestamp", "materialize"),
        *("no-push", "no-push-cache", "pre-cleanup", "preserve-context", "push-ignore-immutable-tag-errors"),
        *("reproducible", "single-snapshot", "skip-default-registry-fallback", "skip-push-permission-check"),
        *("skip-tls-verify", "skip-tls-verify-pull", "skip-unused-stages", "use-new-run"),
    }
)
SHORTHANDS = {"b": "bucket", "c": "context", "d": "destination", "f": "dockerfile", "v": "verbosity"}
SWITCHED = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
"""What Go's strconv.ParseBool takes."""
KEY_VALUE_LISTS = frozenset({"annotation", "registry-certificate", "registry-client-cert", "registry-map"})


class UsageError(Exception):
    """The command line is wrong, in the program's words."""


@dataclass
class Flags:
    """What the command line says; defaults are Kaniko's own."""

    text: dict[str, str] = field(
        default_factory=lambda: {
            "context": "/workspace/",
            "dockerfile": "Dockerfile",
            "log-format": "color",
            "verbosity": "info",
        }
    )
    lists: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)

    def on(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.switches.get(name, False)

    def all(self, name: str) -> list[str]:
        """The values of a flag that may be repeated."""
        return self.lists.get(name, [])


def parse(args: Sequence[str]) -> Flags:
    """Read the arguments of `executor`.

    Raises:
        UsageError: in pflag's words.
    """
    flags, left = Flags(), list(args)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or word == "-":
            raise UsageError(f'unknown command "{word}" for "executor"')
        _take(flags, *_named(word), left)
    return flags


def _named(word: str) -> tuple[str, str, str | None]:
    """The flag's name, how it was written, and the value after `=`."""
    if not word.startswith("--"):
        name = SHORTHANDS.get(word[1])
        if name is None:
            raise UsageError(f"unknown shorthand flag: '{word[1]}' in {word}")
        value = word[2:].removeprefix("=")
        return name, f"-{word[1]}, --{name}", value or None
    name, equals, value = word[2:].partition("=")
    return name, f"--{name}", value if equals else None


def _take(flags: Flags, name: str, written: str, value: str | None, left: list[str]) -> None:
    if name in SWITCHES:
        flags.switches[name] = _switch(written, "true" if value is None else value)
        return
    if name not in STRINGS | LISTS | NUMBERS:
        raise UsageError(f"unknown flag: --{name}")
    if value is None:
        if not left:
            raise UsageError(f"flag needs an argument: --{name}")
        value = left.pop(0)
    if name in STRINGS:
        flags.text[name] = value
    elif name in NUMBERS:
        flags.numbers[name] = _number(written, value)
    else:
        _append(flags, name, written, value)


def _append(flags: Flags, name: str, written: str, value: str) -> None:
    if name in KEY_VALUE_LISTS and "=" not in value:
        raise UsageError(f'invalid argument "{value}" for "{written}" flag: invalid argument value. expect key=value')
    flags.lists.setdefault(name, []).append(value)


def _switch(written: str, value: str) -> bool:
    if value not in SWITCHED:
        why = f'strconv.ParseBool: parsing "{value}": invalid syntax'
        raise UsageError(f'invalid argument "{value}" for "{written}" flag: {why}')
    return SWITCHED[value]


def _number(written: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        why = f'strconv.ParseInt: parsing "{value}": invalid syntax'
        raise UsageError(f'invalid argument "{value}" for "{written}" flag: {why}') from None


def usage() -> str:
    """What is printed after every error before the build: so a log's last lines say nothing of the cause."""
    kinds = ((STRINGS, " string"), (LISTS, " multi-arg type"), (NUMBERS, " int"), (SWITCHES, ""))
    told = sorted((f"      --{name}{kind}" for names, kind in kinds for name in names))
    commands = ["Usage:", "  executor [flags]", "  executor [command]", "", "Flags:"]
    return "\n".join([*commands, *told, "", 'Use "executor [command] --help" for more information about a command.'])
