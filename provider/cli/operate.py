"""`preview serve`, `doctor`, `demo`: running a provider, and seeing what is wrong with one."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.exits import Exit
from provider.cli.options import NatsUrl, Prefix, settings_for
from provider.cli.output import clean, say, say_json, say_table
from provider.cli.startup import quickly, settle

if TYPE_CHECKING:
    from nats.aio.client import Client as Nats

    from provider.client import PreviewClient
    from provider.platforms.base import PartStatus
    from provider.settings import Settings


def serve(nats_url: NatsUrl = None, prefix: Prefix = None) -> None:
    """Run the provider until SIGTERM. Its settings are environment variables."""
    with quickly():
        settings = settings_for(nats_url, prefix)
        from provider.process import serve as run

    settle()
    raise typer.Exit(asyncio.run(run(settings)))


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as one JSON object.")] = False,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Check every part that a provider needs.

    Says what to do about those that are not well. Ends with 0 if all are well, else with 4.
    """
    parts = asyncio.run(_parts(settings_for(nats_url, prefix)))
    well = all(part.ok for part in parts)
    if as_json:
        rows = [{"name": part.name, "ok": part.ok, "detail": part.detail, "hint": part.hint} for part in parts]
        say_json({"ok": well, "parts": rows})
    else:
        say_table(("PART", "STATE", "DETAIL"), [(p.name, "ok" if p.ok else "NOT OK", p.detail) for p in parts])
        for part in parts:
            if not part.ok and part.hint:
                say(f"{clean(part.name)}: {clean(part.hint)}")
    raise typer.Exit(Exit.OK if well else Exit.PLATFORM)


async def _parts(settings: Settings) -> list[PartStatus]:
    """The bus, and the parts that the composition root names for the platform."""
    from provider.process import parts

    bus, platform = await asyncio.gather(bus_parts(settings), parts(settings))
    return [*bus, *platform]


async def bus_parts(settings: Settings) -> list[PartStatus]:
    """NATS, its JetStream, and whether a provider listens, as seen from here."""
    from provider.client import BusUnreachable, PreviewClient, shown_url
    from provider.platforms.base import PartStatus

    where = shown_url(settings.nats_url)
    try:
        async with PreviewClient.connect(settings, provider_patience=0) as client:
            version = client.nats.connected_server_version
            return [
                PartStatus("nats", True, f"{where}, server {version}"),
                await _jetstream_part(client.nats),
                await _provider_part(client),
            ]
    except BusUnreachable as error:
        return [PartStatus("nats", False, str(error), "start nats-server, or set NATS_URL")]


async def _jetstream_part(nats: Nats) -> PartStatus:
    from nats.errors import Error

    from provider.platforms.base import PartStatus

    try:
        await nats.jetstream(timeout=2).account_info()
    except Error as error:
        detail = f"records would be in memory only ({type(error).__name__})"
        return PartStatus("jetstream", False, detail, "start nats-server with -js, or enable it for this account")
    return PartStatus("jetstream", True, "records survive a restart")


async def _provider_part(client: PreviewClient) -> PartStatus:
    """Whether a provider listens: any answer will do, also a failure."""
    from provider.client import ClientError, PreviewFailed
    from provider.platforms.base import PartStatus

    subject = client.subjects.request("list")
    try:
        await client.list(limit=1, timeout=3)
    except PreviewFailed as failed:
        return PartStatus("provider", True, f"listens on {subject}, answered {failed.code}")
    except ClientError as error:
        return PartStatus("provider", False, str(error), "start one: preview serve")
    return PartStatus("provider", True, f"listens on {subject}")


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story instead of keeping the stack up.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each step's outcome as JSON on stdout.")] = False,
) -> None:
    """Start a local stack, deploy a sample app, tell four stories.

    Everything runs on this machine; nothing else is needed. It stays up until Ctrl-C and then leaves nothing.
    Ends with 0 if each step did what it should, with 1 if one did not, with 4 if it cannot run here.
    """
    # Nothing runs yet, and an interrupt in the middle of imports can get lost.
    signal.signal(signal.SIGINT, lambda *_: os._exit(Exit.INTERRUPTED))
    from provider.demo import story

    raise typer.Exit(story.run(once, as_json))
