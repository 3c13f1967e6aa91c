"""One question to the provider: connect, ask, print."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from provider.cli.exits import blame
from provider.cli.options import client_for
from provider.cli.output import say_json

if TYPE_CHECKING:
    from provider.client import Answer, PreviewClient

AnswerT = TypeVar("AnswerT", bound="Answer")


def ask(
    call: Callable[[PreviewClient], Awaitable[AnswerT]],
    show: Callable[[AnswerT], None],
    *,
    nats_url: str | None,
    prefix: str | None,
    as_json: bool,
    judge: Callable[[AnswerT], None] | None = None,
) -> None:
    """Print what `call` answers: with `show`, or as the reply's JSON, which a failure's reply is then too.

    `judge` may raise typer.Exit for an answer that is none of those hoped for.
    """
    from provider.client import PreviewFailed

    async def talk() -> AnswerT:
        async with client_for(nats_url, prefix) as client:
            return await call(client)

    try:
        answer = asyncio.run(talk())
    except PreviewFailed as failed:
        if not as_json:
            raise
        say_json(failed.reply)
        raise typer.Exit(blame(failed.whose)) from None
    if as_json:
        say_json(answer.reply)
    else:
        show(answer)
    if judge is not None:
        judge(answer)
