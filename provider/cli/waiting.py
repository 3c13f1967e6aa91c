"""`preview wait`, `events`, `open`: until something is so, what happened, and the page itself."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import aclosing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from provider.cli.ask import ask
from provider.cli.exits import Exit, blame
from provider.cli.options import (
    AsJson,
    DeployIdOption,
    MaybeSlug,
    NatsUrl,
    Prefix,
    Slug,
    Timeout,
    client_for,
    environ_of,
    one_of,
    wrong,
)
from provider.cli.output import EVENTS_AT, clean, fields_of_event, print_failure, say, tell
from provider.cli.previews import show_record

if TYPE_CHECKING:
    from provider.client import Event, PreviewClient, PreviewFailed, Record

For = Annotated[
    list[str] | None,
    typer.Option("--for", metavar="STATE", help="A state to wait for, perhaps more; default: ready."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="From then on: 90s, 15m, 2h, 7d, or a time; default: all."),
]
FollowEvents = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; without --since only that.")]
WithLogs = Annotated[bool, typer.Option("--logs", help="The lines of builds as well.")]
EventsAsJson = Annotated[bool, typer.Option("--json", help="Print each event's JSON on a line.")]
KEPT = timedelta(days=7)


def wait(
    ctx: typer.Context,
    slug: MaybeSlug = None,
    deploy_id: DeployIdOption = None,
    wanted: For = None,
    as_json: AsJson = False,
    timeout: Timeout = 1200.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Wait until a preview or deploy is in a state.

    It ends early when that can't come true by itself: where it failed and `failed` was not waited for, the diagnosis is
    printed, and the exit code says whose turn it is.
    """
    from provider.bus.queries import AT_REST
    from provider.models import PreviewState

    one_of(slug, deploy_id)
    known = [one.value for one in PreviewState]
    states = wanted or [PreviewState.READY.value]
    for state in states:
        if state not in known:
            raise wrong("--for", state, ", ".join(known))
    until = list(dict.fromkeys([*states, *(one.value for one in AT_REST)]))

    async def call(client: PreviewClient) -> Record:
        with _progress(environ_of(ctx), quiet=as_json) as on_event:
            listening = asyncio.create_task(_listen(client, slug, deploy_id, on_event))
            try:
                return await client.wait(slug, deploy_id=deploy_id, states=until, timeout=timeout)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    def show(record: Record) -> None:
        if record.state in states:
            show_record(record)

    def judge(record: Record) -> None:
        if record.state not in states:
            failure = _failure(record)
            if failure is not None and not as_json:
                print_failure(failure)
            elif not as_json:
                tell(f"{clean(slug or deploy_id)} is {clean(record.state)}, which is not waited for")
            raise typer.Exit(blame(failure.whose) if failure is not None else Exit.USER)

    ask(call, show, nats_url=nats_url, prefix=prefix, as_json=as_json, judge=judge)


def _progress(environ: Mapping[str, str], *, quiet: bool) -> Any:
    from provider.cli.progress import progress

    return nullcontext() if quiet else progress(environ)


async def _listen(client: PreviewClient, slug: str | None, deploy_id: str | None, on_event: Any) -> None:
    if on_event is not None:
        async for event in client.events(slug, deploy_id=deploy_id):
            on_event(event)


def _failure(record: Record) -> PreviewFailed | None:
    """Why a deploy, or the newest one of a preview, failed."""
    from provider.client import FailureForm, PreviewFailed

    found = record.reply.get("report") or record.reply.get("failure")
    if not isinstance(found, dict) or not found.get("code"):
        return None
    known = {"slug": record.slug, "deploy_id": record.deploy_id, **{k: v for k, v in found.items() if v is not None}}
    return PreviewFailed(FailureForm.read(known))


# ---------------------------------------------------------------------------- events


def events(
    slug: MaybeSlug = None,
    deploy_id: DeployIdOption = None,
    follow: FollowEvents = False,
    since: Since = None,
    logs: WithLogs = False,
    as_json: EventsAsJson = False,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show what happened, of one preview, of one deploy, or of all.

    A deploy's first events come before its preview is known: --deploy-id has all of them. The bus keeps a week of
    events.
    """
    from provider.cli.options import check_slug

    if slug and deploy_id:
        one_of(slug, deploy_id)
    check_slug(slug)
    begin = _begin(since, follow)

    async def run() -> None:
        async with client_for(nats_url, prefix) as client:
            if follow:
                found = client.events(slug, deploy_id=deploy_id, since=begin)
            else:
                found = client.past_events(slug, deploy_id=deploy_id, since=begin or datetime.now(UTC) - KEPT)
            async with aclosing(cast(Any, found)) as closing:
                async for event in closing:
                    if logs or event.type != "log":
                        _say(event, as_json)

    asyncio.run(run())


def _begin(since: str | None, follow: bool) -> datetime | None:
    from provider.cli.screen import moment

    now = datetime.now(UTC)
    if since is None:
        return None if follow else now - KEPT
    if (begin := moment(since, now)) is None:
        raise wrong("--since", since, "an age like 90s, 15m, 2h or 7d, or a time like 2026-01-31T12:00:00Z")
    return begin


def _say(event: Event, as_json: bool) -> None:
    if as_json:
        say(json.dumps(event.reply))
    else:
        for line in fields_of_event(event):
            say(line, 0 if event.type == "log" else EVENTS_AT)
    sys.stdout.flush()


# ------------------------------------------------------------------------------ open


def open_(
    ctx: typer.Context,
    slug: Slug,
    show_only: Annotated[bool, typer.Option("--print", help="Only print the URL.")] = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Open a preview in the browser. Its URL is printed, too; without a terminal that is all."""
    from provider.cli.options import check_slug
    from provider.cli.screen import is_terminal

    check_slug(slug)

    def show(record: Record) -> None:
        say(clean(record.url))
        if not record.reply.get("last_good"):
            tell(f"{clean(slug)} is {clean(record.state)}: nothing serves there yet")
            raise typer.Exit(Exit.USER)
        sys.stdout.flush()
        if not show_only and is_terminal(sys.stdout, environ_of(ctx)) and typer.launch(str(record.url)):
            tell("No browser could be started.")

    ask(lambda client: client.status(slug, timeout=timeout), show, nats_url=nats_url, prefix=prefix, as_json=False)
