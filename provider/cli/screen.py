"""What is shown on a terminal: colours, tables that change, and when to look again. Only for people: pipes get lines.

Strangers wrote what is shown, so it goes through `clean` and into `Text`, which rich does not read as markup.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from provider.cli.output import clean

if TYPE_CHECKING:
    from provider.client import PreviewClient, Record

STYLES = {
    "ready": "green",
    "provisioning": "cyan",
    "degraded": "yellow",
    "failed": "red",
    "awaiting_approval": "magenta",
    "removing": "dim",
}
LOOK_SECONDS = 5.0
"""How often it is looked again though nothing was heard: events may get lost."""
CALM_SECONDS = 0.2
SPARE = ("REPOSITORY", "COMMIT", "BRANCH")
"""What a narrow table does without, in this order."""
LONGEST_BRANCH = 28
LEAST_URL = 24
"""Columns in which a URL can be read, on some lines; with less it is left out: `preview open` has it."""
GAP = 2


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a person looks at it who can be shown more than lines."""
    return stream.isatty() and environ.get("TERM") != "dumb"


def console(environ: Mapping[str, str], *, stderr: bool = False) -> Console:
    """A console for stdout or stderr; NO_COLOR is heard."""
    return Console(
        file=sys.stderr if stderr else sys.stdout, highlight=False, no_color=bool(environ.get("NO_COLOR")) or None
    )


def state(text: object) -> Text:
    """A state in its colour."""
    return Text(clean(text), style=STYLES.get(str(text), ""))


def listing_table(records: Iterable[Record], width: int) -> Table:
    """Previews below each other; ages instead of times. Where there is no room for all, some columns are left out."""
    from provider.cli.previews import HEADER, row_of

    now, columns = datetime.now(UTC), dict[str, list[str]]()
    for record in records:
        cells = {**dict(zip(HEADER, row_of(record), strict=True)), "AGE": age(record.updated_at, now)}
        for name in (*HEADER[:-1], "AGE", HEADER[-1]):
            columns.setdefault(name, []).append(_short(clean("-" if cells[name] is None else cells[name]), name))
    for spare in SPARE:
        if sum(max(map(len, (name, *cells))) + GAP for name, cells in columns.items()) > width:
            columns.pop(spare, None)
    others = sum(max(map(len, (name, *cells))) + GAP for name, cells in columns.items() if name != "URL")
    if width - others < LEAST_URL:
        columns.pop("URL", None)
    shown = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        shown.add_column(name, no_wrap=name != "URL", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        named = zip(columns, row, strict=True)
        shown.add_row(*(state(cell) if name == "STATE" else Text(cell) for name, cell in named))
    return shown


def _short(text: str, column: str) -> str:
    """A branch may have any length."""
    return text if column != "BRANCH" or len(text) <= LONGEST_BRANCH else f"{text[: LONGEST_BRANCH - 1]}…"


def record_view(record: Record) -> Table:
    """One preview or deploy, its state in colour."""
    from provider.cli.previews import record_fields

    shown = Table(box=None, show_header=False, pad_edge=False, title=Text(clean(record.slug or record.deploy_id)))
    shown.title_justify, shown.title_style = "left", "bold"
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")  # a URL is of no use without its end
    for label, value in record_fields(record):
        if value not in (None, "", (), [], {}):
            shown.add_row(Text(f"  {label}", style="dim"), state(value) if label == "state" else Text(clean(value)))
    return shown


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, as people say it: `41s`, `12m`, `5h`, `3d`."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit, least in ((86400, "d", 2 * 86400), (3600, "h", 2 * 3600), (60, "m", 2 * 60)):
        if seconds >= least:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(text: str, now: datetime) -> datetime | None:
    """The time that `text` names, absolute with a zone or as an age (`90s`, `15m`, `2h`, `7d`); None for neither."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text[-1:] in units and text[:-1].isdecimal() and len(text) < 10:
        return now - timedelta(seconds=int(text[:-1]) * units[text[-1]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.astimezone()


@asynccontextmanager
async def changes(client: PreviewClient, slug: str | None) -> AsyncIterator[AsyncIterator[None]]:
    """Says when to look: at once, soon after an event that is no log line, and now and then."""
    heard = asyncio.Event()

    async def listen() -> None:
        async for event in client.events(slug):
            if event.type != "log":
                heard.set()

    async def looks() -> AsyncIterator[None]:
        while True:
            heard.clear()
            yield
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await heard.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(CALM_SECONDS)  # a phase's end and the next one's beginning are one look

    listening = asyncio.create_task(listen())
    try:
        yield looks()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
