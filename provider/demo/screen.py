"""What a person sees of the demo: on a terminal live and in colour, else plain lines as things happen.

Nothing here decides anything. Log lines and messages come from what was deployed, so they are shown without
whatever a terminal would act on, and never read as markup.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from provider.client import Event

OnEvent = Callable[[Event], None]

WIDEST = 100
PLAIN_WIDTH = 110
LABEL_WIDTH = 9
NOISE = re.compile(r"(--> )?[0-9a-f]*\s*$")
INDENT = 3
ROOM_BEFORE = INDENT + 2 + LABEL_WIDTH + 8
"""Columns before what a phase says."""
EXPLAINED: Mapping[str, str] = {
    "resolve": "commit found, clone credentials minted, preview.yaml read",
    "admit": "spec checked, name owned, secrets bundled",
    "build": "Dockerfile built in a network of its own, image pushed",
    "deploy": "hardened container started beside whatever runs",
    "rollout": "its probes answer",
    "verify": "asked directly, traffic switched, public URL asked",
    "restore": "what ran before is put back",
}


def printable(text: object) -> str:
    """`text` on one line, without anything that a terminal would act on."""
    return "".join(char for char in str(text).expandtabs(4) if char.isprintable())


def seconds_text(seconds: float) -> str:
    """A duration as people read it: milliseconds where it is quick."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


@dataclass
class Row:
    """One phase: since when it runs (monotonic), how long it took and how it ended, the newest log line."""

    phase: str
    since: float
    seconds: float | None = None
    ok: bool = True
    line: str = ""


class Phases:
    """The phases of one deploy, from its events; rendered anew at each refresh.

    Args:
        marks: for what went well and what did not.
        width: columns for a line.
        footer: a line below the phases, asked for at each refresh.
    """

    def __init__(self, marks: tuple[Text, Text], width: int, footer: Callable[[], str] | None = None) -> None:
        self.rows: dict[str, Row] = {}
        self._marks = marks
        self._width = width
        self._footer = footer
        self._spinner = Spinner("dots", style="cyan")

    def take(self, event: Event) -> Row | None:
        """Note one event; returns the phase that it finished."""
        if event.phase is None or not event.type.startswith(("phase.", "log")):
            return None
        row = self.rows.setdefault(event.phase, Row(event.phase, time.monotonic()))
        if event.type == "log":
            lines = [printable(line) for line in event.data.get("lines", ()) if not NOISE.match(str(line))]
            row.line = lines[-1] if lines else row.line
        if event.type != "phase.finished":
            return None
        row.seconds = float(event.data.get("seconds", time.monotonic() - row.since))
        row.ok = bool(event.data.get("ok", True))
        return row

    def note(self, event: Event) -> None:
        """Note one event."""
        self.take(event)

    def __rich__(self) -> RenderableType:
        grid = _grid()
        for row in list(self.rows.values()):  # a thread of rich's renders, while events come
            grid.add_row(*self.cells(row))
        if self._footer:
            grid.add_row("", Text("visitors", style="cyan"), "", Text(self._footer()))
        return _indented(grid)

    def cells(self, row: Row) -> tuple[RenderableType, Text, Text, Text]:
        """Mark, phase, time, and what it does or says."""
        if row.seconds is None:
            return self._spinner, Text(row.phase), Text(seconds_text(time.monotonic() - row.since)), self._said(row)
        mark = self._marks[0 if row.ok else 1]
        return mark, Text(row.phase), Text(seconds_text(row.seconds)), self._said(row)

    def _said(self, row: Row) -> Text:
        said = Text(row.line or EXPLAINED.get(row.phase, ""), style="dim")
        if row.seconds is not None:
            said = Text(EXPLAINED.get(row.phase, ""), style="dim") if row.ok else Text("failed", style="red")
        said.truncate(max(self._width - ROOM_BEFORE, 10), overflow="ellipsis")
        return said

    def summary(self) -> Text:
        """All on one line."""
        text = Text()
        for row in self.rows.values():
            text.append(" · " if text else "", style="dim")
            text.append(f"{row.phase} ", style="dim" if row.ok else "red")
            text.append(seconds_text(row.seconds or 0.0), style="" if row.ok else "red")
        return text


class Screen:
    """Where the demo shows itself.

    Args:
        out: stdout, or stderr where stdout is for a program.
    """

    def __init__(self, out: TextIO) -> None:
        console = Console(file=out, highlight=False, emoji=False, markup=False)
        self._live = console.is_terminal and not console.is_dumb_terminal
        console.width = min(console.width, WIDEST) if self._live else PLAIN_WIDTH
        unicode = console.encoding.lower().startswith("utf")
        self._console = console
        self._yes = Text("✓" if unicode else "+", style="green")
        self._no = Text("✗" if unicode else "!", style="bold red")
        self._arrow = "→" if unicode else ">"

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show that something takes its time."""
        if not self._live:
            self._console.print(Text(f"{what} …"))
            yield
            return
        with self._console.status(Text(f"{what} …"), spinner="dots", spinner_style="cyan"):
            yield

    def opening(self) -> None:
        """Say what this is."""
        self._console.print()
        self._paragraph(Text("preview demo", style="bold"), indent=0)
        text = "A commit goes in over NATS; seconds later a verified HTTPS address serves it."
        self._paragraph(Text(text, style="dim"), indent=0)
        self._console.print()

    def ready(self, seconds: float, what: str) -> None:
        """Say that the stack is up."""
        self._paragraph(Text.assemble(self._yes, f" Up in {seconds_text(seconds)}: ", (what, "dim")), indent=0)

    def step(self, mark: str, title: str, why: str) -> None:
        """Begin a step."""
        self._console.print()
        self._paragraph(Text.assemble((f"{mark}  ", "bold cyan"), (title, "bold")), indent=0)
        self._paragraph(Text(why, style="dim"))

    def asking(self, sha: str, message: str) -> None:
        """Say what is asked for."""
        text = Text(f"{self._arrow} provision ", style="cyan")
        self._paragraph(text.append(sha[:12], style="bold").append(f"  {printable(message)}", style="default"))

    @contextmanager
    def deploying(self, *, explained: bool = False, footer: Callable[[], str] | None = None) -> Iterator[OnEvent]:
        """What takes a deploy's events.

        Args:
            explained: leave a line a phase, with what it does; else all phases on one line.
            footer: a line to show below the phases while they run.
        """
        phases = Phases((self._yes, self._no), self._console.width, footer)
        if self._live:
            with Live(phases, console=self._console, refresh_per_second=12, transient=True):
                yield phases.note
        else:
            yield partial(self._plain, phases) if explained else phases.note
        if not explained:
            self._console.print(_indented(phases.summary()))
        elif self._live:
            self._console.print(phases)

    def _plain(self, phases: Phases, event: Event) -> None:
        row = phases.take(event)
        if row is not None:
            grid = _grid()
            grid.add_row(*phases.cells(row))
            self._console.print(_indented(grid))

    def check(self, ok: bool, text: str) -> None:
        """One thing that was looked at, and how it was."""
        self._hanging(self._yes if ok else self._no, Text(printable(text), style="" if ok else "red"), INDENT)

    def fields(self, rows: Iterable[tuple[str, str]]) -> None:
        """`label  value` lines for what is there."""
        for label, value in rows:
            if value:
                self._hanging(_label(label), Text(printable(value)), INDENT + 2)

    def log(self, lines: Sequence[str]) -> None:
        """Lines of a log."""
        for index, line in enumerate(lines):
            self._hanging(_label("" if index else "log"), Text(printable(line), style="yellow"), INDENT + 2)

    def copyable(self, rows: Iterable[tuple[str, str]]) -> None:
        """`label  text` lines that are never broken, so that they can be copied."""
        self._console.print()
        for label, text in rows:
            line = Text(f"   {label:<{LABEL_WIDTH}}", style="dim").append(text, style="cyan")
            self._console.print(line, soft_wrap=True)

    def closing(self, ok: bool, text: str) -> None:
        """The last word; of several lines, the first is the message."""
        first, *more = text.splitlines()
        self._console.print()
        self._hanging(self._yes if ok else self._no, Text(printable(first), style="bold"), 0)
        for line in more:
            self._paragraph(Text(printable(line)), indent=2)

    def _hanging(self, label: Text, said: Text, indent: int) -> None:
        """A label and a text whose further lines begin where its first does; no spaces at the ends of lines."""
        room = max(self._console.width - indent - label.cell_len - 1, 20)
        for line in said.wrap(self._console, room):
            line.rstrip()
            self._console.print(_indented(Text.assemble(label, " ", line), indent), soft_wrap=True)
            label = Text(" " * label.cell_len)

    def _paragraph(self, text: Text, *, indent: int = INDENT) -> None:
        self._console.print(_indented(text, indent))


def _indented(what: RenderableType, indent: int = INDENT) -> Padding:
    return Padding(what, (0, 0, 0, indent), expand=False)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 1))
    for width, justify in ((1, "left"), (LABEL_WIDTH - 1, "left"), (7, "right")):
        grid.add_column(width=width, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a plain str
    grid.add_column(no_wrap=True)
    return grid


def _label(text: str) -> Text:
    return Text(f"{text:<{LABEL_WIDTH - 1}}", style="dim")
