"""`--watch` of `preview list` and `status`: a table that changes on a terminal, else a line for each change."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from provider.cli.options import client_for
from provider.cli.output import clean, say, short

if TYPE_CHECKING:
    from rich.console import RenderableType

    from provider.client import PreviewClient, Record

Look = Callable[["PreviewClient"], Awaitable[list["Record"]]]
Show = Callable[[list["Record"]], None]


def watch_listing(
    asked: dict[str, Any], environ: Mapping[str, str], *, as_json: bool, nats_url: str | None, prefix: str | None
) -> None:
    """Show the previews that match, again and again."""
    from provider.cli.screen import console, listing_table

    async def look(client: PreviewClient) -> list[Record]:
        from provider.client import Record

        return [Record.read(one) for one in (await client.list(**asked)).reply["previews"]]

    width = console(environ).width
    with _shown(environ, as_json, lambda records: listing_table(records, width)) as show:
        asyncio.run(_watch(look, show, None, nats_url, prefix))


def watch_record(
    slug: str | None,
    deploy_id: str | None,
    environ: Mapping[str, str],
    *,
    as_json: bool,
    nats_url: str | None,
    prefix: str | None,
) -> None:
    """Show one preview or deploy, again and again."""
    from provider.cli.screen import record_view

    async def look(client: PreviewClient) -> list[Record]:
        return [await client.status(slug, deploy_id=deploy_id)]

    with _shown(environ, as_json, lambda records: record_view(records[0])) as show:
        asyncio.run(_watch(look, show, slug, nats_url, prefix))


async def _watch(look: Look, show: Show, slug: str | None, nats_url: str | None, prefix: str | None) -> None:
    from provider.cli.screen import changes

    async with client_for(nats_url, prefix) as client, changes(client, slug) as looks:
        async for _ in looks:
            show(await look(client))


@contextmanager
def _shown(
    environ: Mapping[str, str], as_json: bool, render: Callable[[list[Record]], RenderableType]
) -> Iterator[Show]:
    """What takes the records each time."""
    from provider.cli.screen import console, is_terminal

    if as_json or not is_terminal(sys.stdout, environ):
        yield _Lines(as_json)
        return
    from rich.live import Live

    with Live(console=console(environ), auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda records: live.update(render(records), refresh=True)


class _Lines:
    """A line for each record that is new or not as it was, and for each that is gone."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._known: dict[str, tuple[object, ...]] = {}

    def __call__(self, records: list[Record]) -> None:
        """Print what changed."""
        names = {str(record.slug or record.deploy_id) for record in records}
        for gone in [name for name in self._known if name not in names]:
            del self._known[gone]
            say(json.dumps({"slug": gone, "state": None}) if self._as_json else f"{clean(gone)}  gone")
        for record in records:
            name = str(record.slug or record.deploy_id)
            mark = (record.state, record.phase, record.commit_sha, record.deploy_id)
            if self._known.get(name) != mark:
                self._known[name] = mark
                say(json.dumps(record.reply) if self._as_json else _line(name, record))
        sys.stdout.flush()


def _line(name: str, record: Record) -> str:
    return "  ".join(
        filter(None, (clean(name), clean(record.state), short(record.commit_sha), clean(record.url or "")))
    )
