"""A deploy's progress while it is waited for: live on a terminal, else a plain line per step. All on stderr.

Progress is a courtesy: it shows the events that arrive, and the answer does not depend on it. Warnings are not
shown here, because the answer has them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from provider.cli.output import clean, tell

if TYPE_CHECKING:
    from provider.client import Event

OnEvent = Callable[["Event"], None]
_TEXT_KEYS = ("message", "text", "line", "lines")


@contextmanager
def progress(environ: Mapping[str, str], *, logs: bool = False) -> Iterator[OnEvent]:
    """What takes the events, for the terminal or the pipe that stderr is; with `logs` also the build's lines."""
    if not sys.stderr.isatty() or environ.get("TERM") == "dumb":
        yield Plain(logs=logs)
        return
    with _live(environ, logs=logs) as live:
        yield live


class Plain:
    """A line as a phase starts and ends, and while the deploy waits in the line; perhaps those of its build's log."""

    def __init__(self, *, logs: bool = False) -> None:
        self._times = _Times()
        self._logs = logs

    def __call__(self, event: Event) -> None:
        """Print `event`, if it is one to be printed."""
        for said in log_lines(event) if self._logs else ():
            tell(f"  | {said}")
        line = self._line(event)
        if line:
            tell(line)

    def _line(self, event: Event) -> str:
        phase = clean(event.phase or "")
        if event.type == "phase.started":
            self._times.started(event)
            return f"{phase}: started"
        if event.type == "phase.finished":
            return f"{phase}: {how_it_ended(event)}{self._times.taken(event, ' in ')}"
        return waiting_of(event)


@contextmanager
def _live(environ: Mapping[str, str], *, logs: bool) -> Iterator[OnEvent]:
    """A spinner with the phase and the newest log line; finished phases stay above it."""
    from rich.text import Text

    from provider.cli.screen import console as console_for

    # `Text` throughout: rich would read markup in a plain string, and strangers write log lines.
    console, times = console_for(environ, stderr=True), _Times()
    with console.status(Text("asking")) as status:

        def show(event: Event) -> None:
            phase = clean(event.phase or "")
            if event.type == "phase.started":
                times.started(event)
                status.update(Text(phase))
            elif event.type == "phase.finished":
                good = event.data.get("ok") is not False
                mark = Text("✓ " if good else "✗ ", style="green" if good else "bold red")
                console.print(mark + Text(f"{phase:<9}{times.taken(event, '')}"))
            elif event.type == "log" and logs:
                for said in log_lines(event):
                    console.print(Text(f"  │ {said}", style="dim"), soft_wrap=True)
            elif event.type == "log":
                room = max(console.width - len(phase) - 6, 10)
                status.update(Text(f"{phase}  {text_of(event)[:room]}", no_wrap=True))
            elif waiting := waiting_of(event):
                status.update(Text(waiting))

        yield show


class _Times:
    """How long phases took: what the event says, else by the times of their events."""

    def __init__(self) -> None:
        self._since: dict[str | None, datetime] = {}

    def started(self, event: Event) -> None:
        self._since[event.phase] = event.at

    def taken(self, event: Event, before: str) -> str:
        """The phase's duration with `before` in front, "" if unknown."""
        seconds = event.data.get("seconds")
        since = self._since.get(event.phase)
        if not isinstance(seconds, int | float) and since:
            seconds = (event.at - since).total_seconds()
        return f"{before}{seconds:.1f} s" if isinstance(seconds, int | float) else ""


def how_it_ended(event: Event) -> str:
    """Whether a phase went well; a provider of the future may not say."""
    return "failed" if event.data.get("ok") is False else "finished"


def log_lines(event: Event) -> list[str]:
    """The lines of a log event; none of any other."""
    lines = event.data.get("lines") if event.type == "log" else None
    return [clean(line) for line in lines] if isinstance(lines, list) else []


def waiting_of(event: Event) -> str:
    """Where a deploy stands in the line; "" for any other event."""
    position, of = event.data.get("position"), event.data.get("of")
    if event.type != "state" or not isinstance(position, int) or not isinstance(of, int):
        return ""
    what = "to build" if event.data.get("waits_for") == "build" else "for its turn"
    return f"waiting {what}: {position} of {of}"


def text_of(event: Event) -> str:
    """The text of a log event; of several lines the last."""
    for key in _TEXT_KEYS:
        value = event.data.get(key)
        if isinstance(value, list) and value:
            return clean(value[-1])
        if isinstance(value, str):
            return clean(value)
    return ""
