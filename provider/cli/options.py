"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from provider.cli.output import clean

if TYPE_CHECKING:
    from provider.client import PreviewClient
    from provider.settings import Settings

Number = TypeVar("Number", int, float)
COMPLETION_SECONDS = 1.0


def number(kind: type[Number], least: Number) -> Callable[[str], Number]:
    """A parser of numbers from `least` up, whose error names the value and what is allowed."""

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = kind(least - 1)
        if not (math.isfinite(value) and value >= least):
            what = "a whole number" if kind is int else "a number"
            raise typer.BadParameter(f"{clean(text)!r} is not allowed; allowed: {what} from {least} up")
        return value

    return parse


NatsUrl = Annotated[
    str | None, typer.Option("--nats-url", metavar="URL", help="NATS server; default: NATS_URL.", show_default=False)
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", metavar="SUBJECT", help="Where the provider listens; default: SUBJECT_PREFIX.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly the reply's JSON on stdout.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", parser=number(float, 0.1), help="How long to wait in all.")
]
Branch = Annotated[str | None, typer.Option("--branch", "-b", metavar="NAME", help="The branch.", show_default=False)]
Commit = Annotated[
    str | None,
    typer.Option(
        "--commit", metavar="SHA", help="Commit, 7 to 40 hex digits; default: the branch's head.", show_default=False
    ),
]
Installation = Annotated[
    int | None,
    typer.Option(
        "--installation-id",
        metavar="N",
        parser=number(int, 0),
        help="Whose clone credentials; left out: none.",
        show_default=False,
    ),
]


def slugs(incomplete: str) -> list[str]:
    """The previews whose names begin so, for the shell's completion; none where the bus does not answer at once."""
    from provider.client import ClientError, PreviewClient

    async def ask() -> list[str]:
        async with PreviewClient.connect(
            settings_for(None, None), connect_seconds=COMPLETION_SECONDS, provider_patience=0.0
        ) as client:
            listing = await client.list(limit=500, timeout=COMPLETION_SECONDS)
            return [one.slug for one in listing.previews if one.slug and one.slug.startswith(incomplete)]

    try:
        return asyncio.run(ask())
    except (ClientError, ValueError):  # a wrong setting is a ValueError
        return []


Slug = Annotated[
    str, typer.Argument(metavar="SLUG", help="The preview's name.", show_default=False, autocompletion=slugs)
]
MaybeSlug = Annotated[
    str | None, typer.Argument(metavar="[SLUG]", help="The preview's name.", show_default=False, autocompletion=slugs)
]
MaybeSession = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="The session that asks.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Take over another session's claim; it is audited.")]
DeployIdOption = Annotated[
    str | None, typer.Option("--deploy-id", metavar="ID", help="The deploy instead of the preview.", show_default=False)
]


def examples(*lines: str) -> str:
    """Examples as an epilog that keeps its lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def environ_of(ctx: typer.Context) -> Mapping[str, str]:
    """The environment that `main` was given."""
    return cast(Mapping[str, str], ctx.obj)


def wrong(option: str, value: object, allowed: str) -> typer.BadParameter:
    """A usage error that names the option, its value and what is allowed."""
    return typer.BadParameter(f"{clean(value)!r} is not allowed; allowed: {allowed}", param_hint=f"'{option}'")


def settings_for(nats_url: str | None, prefix: str | None) -> Settings:
    """The settings of the environment, with what the command line overrides."""
    from provider.settings import Settings

    given = {"nats_url": nats_url, "subject_prefix": prefix}
    overrides: dict[str, Any] = {name: value for name, value in given.items() if value}
    return Settings(**overrides)


def client_for(nats_url: str | None, prefix: str | None) -> AbstractAsyncContextManager[PreviewClient]:
    """A client as environment and command line say."""
    from provider.client import PreviewClient

    if prefix and not re.fullmatch(r"[^\s.*>]+(\.[^\s.*>]+)*", prefix):
        raise wrong("--prefix", prefix, "tokens joined by dots, without spaces, * or >")
    return PreviewClient.connect(settings_for(nats_url, prefix))


def check_value(option: str, value: str | None, kind: Any, allowed: str) -> None:
    """Raise a usage error unless `value` is None or of `kind`, one of the annotated types of `models`."""
    from pydantic import TypeAdapter, ValidationError

    if value is None:
        return
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        raise wrong(option, value, allowed) from None


def check_names(repo: str, branch: str | None, commit: str | None) -> str:
    """Raise a usage error unless repository, branch and commit can be such; returns the branch."""
    from provider.models import RepoName

    check_value("OWNER/REPO", repo, RepoName, "OWNER/REPO, like acme/shop")
    if not branch:
        raise typer.BadParameter("is required with OWNER/REPO, like --branch main", param_hint="'--branch'")
    if commit is not None and not re.fullmatch(r"[0-9a-fA-F]{7,40}", commit):
        raise wrong("--commit", commit, "7 to 40 hex digits")
    return branch


def one_of(slug: str | None, deploy_id: str | None) -> None:
    """Raise a usage error unless exactly one of the two is given."""
    if bool(slug) == bool(deploy_id):
        raise typer.BadParameter("give either SLUG or --deploy-id ID", param_hint="'SLUG'")
    check_slug(slug)


def check_session(session: str | None, option: str = "--session") -> None:
    """Raise a usage error unless `session` is None or can be a session's id."""
    from provider.models import SessionId

    check_value(option, session, SessionId, "1 to 128 letters, digits, _ and -")


def check_slug(slug: str | None) -> None:
    """Raise a usage error unless `slug` can be one."""
    from provider.names import is_slug

    if slug is not None and not is_slug(slug):
        raise wrong("SLUG", slug, "a preview's name: lower case letters, digits and -, 63 at most")
