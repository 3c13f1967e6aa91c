"""`preview logs`: what an app or its build says, so far or as it goes on."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.ask import ask
from provider.cli.options import AsJson, DeployIdOption, MaybeSlug, NatsUrl, Prefix, Timeout, client_for, one_of
from provider.cli.output import clean, say, tell

if TYPE_CHECKING:
    from provider.client import Look

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with lines as they come, until there are no more.")]
OfBuild = Annotated[bool, typer.Option("--build", help="The log of the build, in place of the app's.")]
Previous = Annotated[bool, typer.Option("--previous", help="What the app said before its last restart.")]
Tail = Annotated[int, typer.Option(min=1, max=5000, help="How many of the last lines.")]
Pod = Annotated[str | None, typer.Option("--pod", help="Which pod or container; default: the newest.")]


def logs(
    slug: MaybeSlug = None,
    deploy_id: DeployIdOption = None,
    follow: Follow = False,
    build: OfBuild = False,
    previous: Previous = False,
    tail: Tail = 100,
    pod: Pod = None,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show the log of an app, or of its build.

    A build's is there when the build is gone, too. With --follow it is shown from its beginning; with --json each
    message is one object on a line.
    """
    one_of(slug, deploy_id)
    kind = "build_logs" if build else "logs"
    asked: dict[str, Any] = {"include": [kind], "tail": tail, "previous": previous, "container": pod}
    if follow:
        asyncio.run(_follow(slug, deploy_id, asked, as_json=as_json, nats_url=nats_url, prefix=prefix))
        return
    ask(
        lambda client: client.introspect(slug, deploy_id=deploy_id, timeout=timeout, **asked),
        lambda look: _show(look, kind),
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def _show(look: Look, kind: str) -> None:
    for line in look.build_logs if kind == "build_logs" else look.logs:
        say(clean(line))
    if rest := look.truncated.get(kind):
        tell(f"There is more: {clean(rest)}")


async def _follow(
    slug: str | None,
    deploy_id: str | None,
    asked: dict[str, Any],
    *,
    as_json: bool,
    nats_url: str | None,
    prefix: str | None,
) -> None:
    async with client_for(nats_url, prefix) as client:
        async for look in client.follow(slug, deploy_id=deploy_id, **asked):
            if as_json:
                say(json.dumps(look.reply))
            for line in look.lines if not as_json else ():
                say(clean(line))
            sys.stdout.flush()
