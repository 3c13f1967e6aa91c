"""Following: whoever reads slowly is waited for, whoever goes is let go of, and nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from provider.bus.queries import IntrospectRequest
from provider.introspection import MOST_CHARS, Introspection, _bounded, _Subject
from provider.masking import Masker


class Reader:
    """Takes so many messages, and is gone then."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: list[dict[str, Any]] = []

    async def send(self, body: dict[str, Any]) -> bool:
        if len(self.taken) >= self.most:
            return False
        self.taken.append(body)
        await asyncio.sleep(0)
        return True


class Platform:
    """Its app says lines for ever, or for a while; counts what was read, and whether it was let go of."""

    def __init__(self, batches: int | None, width: int = 10) -> None:
        self.batches, self.width = batches, width
        self.read, self.closed = 0, False

    @property
    def inspector(self) -> Platform:
        return self

    async def app_log(self, slug: str, query: object) -> AsyncGenerator[list[str], None]:
        try:
            while self.batches is None or self.read < self.batches:
                self.read += 1
                yield [f"{self.read}".ljust(self.width, ".")] * 200
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def followed(platform: Platform, reader: Reader) -> None:
    context = cast(Any, type("Ctx", (), {"platform": platform}))
    looks = Introspection(ctx=context, status=cast(Any, None), streams=cast(Any, None))
    asked = IntrospectRequest(slug="app", include=("logs",), follow=True)
    async with asyncio.timeout(10.0):
        await looks._follow(asked, _Subject("app", None, None), Masker(), {"ok": True}, cast(Any, reader))


async def test_a_log_is_told_whole_and_ends() -> None:
    platform, reader = Platform(300), Reader(10**6)
    await followed(platform, reader)
    lines = [line for message in reader.taken for line in message.get("lines", ())]
    assert lines == [f"{number}".ljust(10, ".") for number in range(1, 301) for _ in range(200)]
    assert (reader.taken[0]["type"], reader.taken[-1]) == ("look", {"type": "end"})


async def test_messages_stay_small_however_long_the_lines_are() -> None:
    platform, reader = Platform(5, width=8000), Reader(10**6)
    await followed(platform, reader)
    sizes = [sum(map(len, message["lines"])) for message in reader.taken if "lines" in message]
    assert sum(sizes) == 5 * 200 * 8000
    assert max(sizes) <= MOST_CHARS + 8000


async def test_a_reader_that_goes_is_let_go_of_and_no_more_is_read() -> None:
    platform, reader = Platform(None), Reader(3)
    await followed(platform, reader)
    assert len(reader.taken) == 3
    assert platform.closed
    assert platform.read < 3000, "it was not read ahead of the reader without bound"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("follow")]


async def test_an_answer_is_bounded_in_bytes_too() -> None:
    answer: dict[str, Any] = {"truncated": {}}
    platform = Platform(5, width=8000)
    lines = await _bounded(platform.app_log("app", None), 1000, Masker(), "logs", answer)
    assert 10 < len(lines) < 20
    assert lines[-1].startswith("5.")
    assert "tail" in answer["truncated"]["logs"]
