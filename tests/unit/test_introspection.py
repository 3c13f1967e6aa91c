"""Following: whoever reads slowly is waited for, whoever goes is let go of, and nothing is left running."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

from provider.bus.queries import IntrospectRequest
from provider.introspection import Introspection, _bounded, _Masking, _Subject
from provider.masking import Masker
from provider.sharing import MOST_BYTES, MOST_CHARS, MOST_SPOOLED


class Reader:
    """Takes so many messages, and is gone then."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.hold: asyncio.Event | None = None
        self.taken: list[dict[str, Any]] = []

    async def send(self, body: dict[str, Any]) -> bool:
        if len(self.taken) >= self.most:
            return False
        self.taken.append(body)
        await (self.hold.wait() if self.hold is not None and "lines" in body else asyncio.sleep(0))
        return True

    async def send_encoded(self, body: bytes) -> bool:
        return await self.send(json.loads(body))


class Platform:
    """Its app says lines for ever, or for a while; counts what was read, and whether it was let go of."""

    def __init__(self, batches: int | None, width: int = 10) -> None:
        self.batches, self.width = batches, width
        self.read, self.opened, self.closed = 0, 0, False

    @property
    def inspector(self) -> Platform:
        return self

    async def app_log(self, slug: str, query: object) -> AsyncGenerator[list[str], None]:
        self.opened += 1
        try:
            while self.batches is None or self.read < self.batches:
                self.read += 1
                yield [f"{self.read}".ljust(self.width, ".")] * 200
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def followed(platform: Platform, *readers: Reader, tail: int = 5000) -> None:
    """All of them follow the app's log, one beginning after the other."""
    context = cast(Any, type("Ctx", (), {"platform": platform}))
    looks = Introspection(ctx=context, status=cast(Any, None), streams=cast(Any, None))
    asked = IntrospectRequest(slug="app", include=("logs",), follow=True, tail=tail)
    masking = _Masking(frozenset(), Masker)
    async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
        for reader in readers:
            subject = _Subject("app", None, None)
            group.create_task(looks._follow(asked, subject, masking, {"ok": True}, cast(Any, reader)))
            await asyncio.sleep(0)


def lines_of(reader: Reader) -> list[str]:
    return [line for message in reader.taken for line in message.get("lines", ())]


async def test_a_log_is_told_whole_and_ends() -> None:
    platform, reader = Platform(300), Reader(10**6)
    await followed(platform, reader)
    assert lines_of(reader) == [f"{number}".ljust(10, ".") for number in range(1, 301) for _ in range(200)]
    assert (reader.taken[0]["type"], reader.taken[-1]) == ("look", {"type": "end"})


async def test_messages_stay_small_however_long_the_lines_are() -> None:
    platform, reader = Platform(5, width=8000), Reader(10**6)
    await followed(platform, reader)
    sizes = [sum(map(len, message["lines"])) for message in reader.taken if "lines" in message]
    assert sum(sizes) == 5 * 200 * 8000
    assert max(sizes) <= max(MOST_CHARS + 8000, MOST_BYTES)


async def test_a_reader_that_goes_is_let_go_of_and_no_more_is_read() -> None:
    platform, reader = Platform(None), Reader(3)
    await followed(platform, reader)
    assert len(reader.taken) == 3
    assert platform.closed
    assert platform.read < MOST_SPOOLED / (200 * 10), "it was not read ahead of the reader without bound"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("follow", "read"))]


async def test_many_followers_share_one_reader_and_each_gets_all() -> None:
    platform, readers = Platform(300), [Reader(10**6) for _ in range(20)]
    await followed(platform, *readers)
    assert platform.opened == 1
    alone = Reader(10**6)
    await followed(Platform(300), alone)
    assert all(lines_of(reader) == lines_of(alone) for reader in readers)
    assert platform.closed


async def test_a_slow_follower_holds_up_no_other() -> None:
    platform, slow, quick = Platform(300), Reader(10**6), Reader(10**6)
    slow.hold = asyncio.Event()
    following = asyncio.create_task(followed(platform, slow, quick))
    async with asyncio.timeout(10):
        while not quick.taken or quick.taken[-1] != {"type": "end"}:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)
    assert len(slow.taken) == 2
    slow.hold.set()
    await following
    assert lines_of(slow) == lines_of(quick)


async def test_an_answer_is_bounded_in_bytes_too() -> None:
    answer: dict[str, Any] = {"truncated": {}}
    platform = Platform(5, width=8000)
    lines = await _bounded(platform.app_log("app", None), 1000, Masker(), "logs", answer)
    assert 10 < len(lines) < 20
    assert lines[-1].startswith("5.")
    assert "tail" in answer["truncated"]["logs"]
