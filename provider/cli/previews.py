"""`preview teardown`, `status`, `list`, `cancel`: what is done with previews that are there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.ask import ask
from provider.cli.options import (
    AsJson,
    Branch,
    DeployIdOption,
    Force,
    MaybeSession,
    MaybeSlug,
    NatsUrl,
    Prefix,
    Slug,
    Timeout,
    check_session,
    check_slug,
    environ_of,
    number,
    one_of,
    wrong,
)
from provider.cli.output import clean, say, say_fields, say_table, short, tell

if TYPE_CHECKING:
    from provider.client import Cancelled, Listing, Record, TornDown

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on showing what changes, until Ctrl-C.")]


def teardown(
    slug: Slug,
    session: MaybeSession = None,
    force: Force = False,
    as_json: AsJson = False,
    timeout: Timeout = 120.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Remove a preview and everything of it. Can be repeated.

    One that a session claims is removed by that session only, or by force.
    """
    check_slug(slug)
    check_session(session)
    ask(
        lambda client: client.teardown(slug, session_id=session, force=force, timeout=timeout),
        _show_torn_down,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def _show_torn_down(done: TornDown) -> None:
    removed = [*done.deleted, *done.also_deleted]
    say(f"Removed {clean(done.slug)}" if removed else f"Nothing to remove of {clean(done.slug)}")
    for name in removed:
        say(f"  {clean(name)}")


def status(
    ctx: typer.Context,
    slug: MaybeSlug = None,
    deploy_id: DeployIdOption = None,
    watch: Watch = False,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show a preview, or a deploy."""
    one_of(slug, deploy_id)
    if watch:
        from provider.cli.watching import watch_record

        watch_record(slug, deploy_id, environ_of(ctx), as_json=as_json, nats_url=nats_url, prefix=prefix)
        return
    ask(
        lambda client: client.status(slug, deploy_id=deploy_id, timeout=timeout),
        show_record,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def show_record(record: Record) -> None:
    """The fields that people ask for; `--json` has all."""
    say(clean(record.slug or record.deploy_id or "?"))
    say_fields(record_fields(record))


def record_fields(record: Record) -> list[tuple[str, object]]:
    """What people ask for, with its labels; absent values are empty."""
    failure, claim = record.reply.get("failure"), record.reply.get("claim")
    why = failure if isinstance(failure, dict) else {}
    return [
        ("state", record.state),
        ("phase", record.phase),
        ("url", record.url),
        ("repository", record.repo_full_name),
        ("branch", record.branch),
        ("commit", short(_commit(record))),
        ("deploy", record.deploy_id),
        ("updated", _time(record.updated_at)),
        ("lives until", _time(record.reply.get("expires_at"))),
        ("claimed by", f"{claim.get('session_id')} until {_time(claim.get('expires_at'))}" if claim else None),
        ("failure", f"{why.get('code')}: {why.get('message')}" if why else None),
        ("next step", why.get("hint")),
    ]


def _time(value: object) -> str | None:
    """A time as people read it: to the second, in UTC."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return str(value)


def _commit(record: Record) -> str | None:
    """A deploy's commit, or the one that a preview's record has as current."""
    current = record.reply.get("current")
    return record.commit_sha or (str(current.get("commit_sha") or "") if isinstance(current, dict) else None)


def list_(
    ctx: typer.Context,
    repo: Annotated[str | None, typer.Option("--repo", metavar="OWNER/REPO", help="Only of this repository.")] = None,
    branch: Branch = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="Only of this session.")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only in this state.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", parser=number(int, 1), help="At most that many.")
    ] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="CURSOR", help="Continue a page.")] = None,
    watch: Watch = False,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """List previews."""
    from provider.models import PreviewState

    states = [known.value for known in PreviewState]
    if state is not None and state not in states:
        raise wrong("--state", state, ", ".join(states))
    asked: dict[str, Any] = {
        "repo": repo,
        "branch": branch,
        "session_id": session,
        "state": state,
        "limit": limit,
        "after": after,
    }
    if watch:
        from provider.cli.watching import watch_listing

        watch_listing(asked, environ_of(ctx), as_json=as_json, nats_url=nats_url, prefix=prefix)
        return
    ask(
        lambda client: client.list(**asked, timeout=timeout),
        lambda listing: _show_listing(listing, environ_of(ctx)),
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


HEADER = ("SLUG", "STATE", "REPOSITORY", "BRANCH", "COMMIT", "URL")


def row_of(record: Record) -> tuple[object, ...]:
    """A preview's cells below `HEADER`."""
    commit = short(_commit(record)) or None
    return (record.slug, record.state, record.repo_full_name, record.branch, commit, record.url)


def _show_listing(listing: Listing, environ: Mapping[str, str]) -> None:
    if not listing.previews:
        tell("No previews.")
        return
    if sys.stdout.isatty():
        from provider.cli.screen import console, listing_table

        screen = console(environ)
        screen.print(listing_table(listing.previews, screen.width))
    else:
        say_table(HEADER, [row_of(one) for one in listing.previews])
    if listing.next:
        tell(f"There are more: --after {clean(listing.next)}")


def cancel(
    slug: MaybeSlug = None,
    deploy_id: DeployIdOption = None,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Stop a deploy; by SLUG: the one that is under way. What ran before keeps running."""
    one_of(slug, deploy_id)
    ask(
        lambda client: client.cancel(slug, deploy_id=deploy_id, timeout=timeout),
        lambda done: _show_cancelled(done, deploy_id or slug),
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def _show_cancelled(done: Cancelled, asked: str | None) -> None:
    name = clean(done.deploy_id or asked or "")
    say(f"Cancelled {name}" if done.cancelled else f"{name} had ended already")
