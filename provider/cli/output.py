"""What a person or a script reads. Replies hold text that strangers wrote, so nothing of it is interpreted.

Results go to stdout, all else to stderr. Plain text on purpose: no markup, no box drawing; what changes on a terminal
is in `screen`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from provider.client import Event, PreviewFailed
    from provider.errors import PreviewError

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""C0, DEL, C1, line separators, and what turns the direction of text (it can make a line read as another)."""

LABEL_WIDTH = 15
VALUES_AT = LABEL_WIDTH + 3
EVENTS_AT = 42
"""Columns at which the values of fields and what happened begin."""


def clean(text: object) -> str:
    """`text` on one line, without anything that a terminal would act on."""
    bare = _ESCAPES.sub("", str(text))
    return _CONTROL.sub("", bare.replace("\r\n", " ").replace("\n", " ").replace("\t", "    "))


def lines_of(texts: Iterable[str]) -> list[str]:
    """The clean lines of several texts; one text may hold more than one line."""
    # Not splitlines: it also splits at characters that are to be removed.
    return [clean(line) for text in texts for line in str(text).rstrip("\n").split("\n")]


def say(line: str = "", hang: int = 0) -> None:
    """A line of the result, on stdout. Where it is longer than a terminal, it goes on at the column `hang`."""
    sys.stdout.write(f"{_wrapped(line, hang, sys.stdout)}\n")


def tell(line: str = "", hang: int = 0) -> None:
    """A line beside the result (progress, warnings, failures), on stderr; `hang` as in `say`."""
    sys.stderr.write(f"{_wrapped(line, hang, sys.stderr)}\n")
    sys.stderr.flush()


def _wrapped(line: str, hang: int, stream: TextIO) -> str:
    """The line broken between words, for a person; words that are too long, and logs (no `hang`), are left whole."""
    if not hang or not stream.isatty():
        return line
    width = max(os.get_terminal_size(stream.fileno()).columns, 2 * hang)
    parts = textwrap.wrap(line, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts)


def say_json(value: object) -> None:
    """One JSON object on stdout; ASCII, so that no character of it can do anything."""
    say(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def say_fields(fields: Iterable[tuple[str, object]]) -> None:
    """`label  value` lines for what is there."""
    for label, value in fields:
        if value not in (None, "", (), [], {}):
            say(f"  {clean(label):<{LABEL_WIDTH}} {clean(value)}", VALUES_AT)


def say_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns."""
    cells = [list(header), *([clean("-" if cell is None else cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def tell_warnings(warnings: Iterable[str]) -> None:
    """Warnings of a reply."""
    for warning in warnings:
        tell(f"warning: {clean(warning)}", len("warning: "))


def short(commit_sha: str | None) -> str:
    """A sha as people read it."""
    return (commit_sha or "")[:12]


def fields_of_event(event: Event) -> list[str]:
    """An event as people read it: when, which preview, phase, what; a log's lines each by itself."""
    at = event.at.astimezone().strftime("%H:%M:%S")
    head = f"{at}  {clean(event.slug or event.deploy_id[:14]):<20}  {clean(event.phase or ''):<8}"
    if event.type == "log":
        return [f"{head}  | {clean(line)}" for line in event.data.get("lines", ())]
    return [f"{head}  {_happened(event)}".rstrip()]


def _happened(event: Event) -> str:
    data = event.data
    said = clean(data.get("message") or data.get("retrying") or "")
    failed = f"failed: {clean(data.get('code'))}" + (f" ({clean(data['reason'])})" if data.get("reason") else "")
    match event.type:
        case "phase.started":
            return "began"
        case "phase.finished":
            took = f" after {data['seconds']:.1f} s" if isinstance(data.get("seconds"), int | float) else ""
            return f"{'done' if data.get('ok') else failed}{took}{f'  {said}' if said else ''}"
        case "warning":
            return f"warning: {said or json.dumps(data)}"
        case "state" if "ok" in data:
            return f"ready: {clean(data.get('url'))}" if data["ok"] else failed
        case "state" if "position" in data:
            return f"waits for its turn to {clean(data.get('waits_for'))}: {data['position']} of {data.get('of')}"
        case "state" if "joins" in data:
            return f"joins deploy {clean(data['joins'])}"
    return f"{clean(event.type)}: {said or clean(json.dumps(data))}"


def print_failure(failed: PreviewFailed | PreviewError) -> None:
    """The diagnosis, on stderr: what happened, whose turn it is, what was seen, what to do, and what still runs."""
    phase = _of(failed, "phase")
    _tell_boldly(f"Failed{f' in phase {clean(phase)}' if phase else ''}: {clean(failed.message)}")
    reason = f" ({clean(failed.reason)})" if failed.reason else ""
    _field("code", f"{clean(failed.code)}{reason}")
    act = "yours" if failed.whose == "user" else "whoever runs the platform"
    _field("whose turn", f"{act}{'; trying again may help' if failed.retryable else ''}")
    _field("preview", _of(failed, "slug"))
    _field("deploy", _of(failed, "deploy_id"))
    _field("still serving", short(_of(failed, "still_serving")))
    _block("evidence", failed.evidence, "- ")
    _block("log", failed.log_tail, "| ")
    _hint(failed.hint)
    tell_warnings(_of(failed, "warnings") or ())


def _tell_boldly(line: str) -> None:
    """A line that a person must not miss; in colour where that can be shown and NO_COLOR does not forbid it."""
    if not sys.stderr.isatty():
        tell(line)
        return
    from rich.console import Console
    from rich.text import Text

    text = Text(_wrapped(line, 2, sys.stderr), style="bold red")
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def _of(failed: object, name: str) -> Any:
    """A field that only an answer's failure has, not one that was found locally."""
    return getattr(failed, name, None)


def _field(label: str, value: object) -> None:
    if value:
        tell(f"  {label:<{LABEL_WIDTH}} {clean(value)}", VALUES_AT)


def _block(label: str, texts: Sequence[str], mark: str) -> None:
    if texts:
        tell(f"  {label}:")
        for line in lines_of(texts):
            tell(f"    {mark}{line}".rstrip(), 4 + len(mark) if mark == "- " else 0)


def _hint(hint: str | None) -> None:
    """A hint of one line like a field; a longer one (the smallest valid spec) as it stands."""
    lines = lines_of([hint]) if hint else []
    if len(lines) > 1:
        _block("next step", [hint or ""], "")
    elif lines:
        _field("next step", lines[0])
