"""`preview touch`, `claim`, `release`, `attach`: whose a preview is, and how long it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.ask import ask
from provider.cli.options import AsJson, Force, NatsUrl, Prefix, Slug, Timeout, check_session, check_slug, number
from provider.cli.output import clean, say, say_fields, tell_warnings

if TYPE_CHECKING:
    from provider.client import Tenure

Session = Annotated[str, typer.Option("--session", metavar="ID", help="The session.", show_default=False)]
DEFAULT_CLAIM = 3600


def touch(
    slug: Slug,
    ttl: Annotated[
        int | None,
        typer.Option("--ttl", metavar="SECONDS", parser=number(int, 0), help="From now on; 0: for ever, if allowed."),
    ] = None,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Have a preview live on. Its time to live begins anew."""
    check_slug(slug)
    ask(
        lambda client: client.touch(slug, ttl_seconds=ttl, timeout=timeout),
        _show,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def claim(
    slug: Slug,
    session: Session,
    ttl: Annotated[
        int, typer.Option("--ttl", metavar="SECONDS", parser=number(int, 1), help="For how long.")
    ] = DEFAULT_CLAIM,
    force: Force = False,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Let one session alone deploy to a preview and tear it down.

    Asked again by the same session, the time begins anew. What is being applied just now is finished.
    """
    check_slug(slug)
    check_session(session)
    ask(
        lambda client: client.claim(slug, session, ttl, force=force, timeout=timeout),
        _show,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def release(
    slug: Slug,
    session: Session,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Give a session's claim up."""
    check_slug(slug)
    check_session(session)
    ask(
        lambda client: client.release(slug, session, timeout=timeout),
        _show,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def attach(
    slug: Slug,
    session: Session,
    from_session: Annotated[
        str | None, typer.Option("--from", metavar="ID", help="Only if it is that session's until now.")
    ] = None,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Make a preview, and the claim on it, another session's."""
    check_slug(slug)
    check_session(session)
    check_session(from_session, "--from")
    ask(
        lambda client: client.attach(slug, session, from_session=from_session, timeout=timeout),
        _show,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def _show(tenure: Tenure) -> None:
    say(clean(tenure.slug))
    claim = tenure.claim or {}
    say_fields(
        [
            ("session", tenure.session_id),
            ("claimed by", claim.get("session_id")),
            ("claimed until", claim.get("expires_at")),
            ("lives until", tenure.expires_at or "for ever"),
        ]
    )
    tell_warnings(tenure.warnings)
