"""A shared log: from its last lines on, beyond what the file holds, and with what a secret is by then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from provider.errors import Code, Temporary
from provider.masking import Masker
from provider.sharing import SharedLog, SharedLogs


async def numbers(count: int, each: int = 7) -> AsyncGenerator[list[str], None]:
    for begin in range(0, count, each):
        yield [str(number) for number in range(begin, min(begin + each, count))]


async def taken(log: SharedLog, tail: int | None = None) -> list[str]:
    return [line async for message in log.messages(tail) for line in json.loads(message)["lines"]]


def shown(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize("tail", [0, 1, 6, 7, 8, 50, 99, 100, 5000])
async def test_a_late_follower_begins_with_the_last_lines(tail: int) -> None:
    log = SharedLog("logs", numbers(100), Masker)
    assert await taken(log) == shown(100)
    assert await taken(log, tail) == shown(100)[max(0, 100 - tail) :]
    await log.close()


async def test_a_log_larger_than_the_file_is_told_whole_and_nobody_more_may_follow_it() -> None:
    log = SharedLog("logs", numbers(5000), Masker, most=1000)
    followers = [asyncio.create_task(taken(log)) for _ in range(3)]
    assert await asyncio.gather(*followers) == [shown(5000)] * 3
    assert not log.open
    await log.close()


async def test_a_follower_that_goes_keeps_nobody_waiting() -> None:
    log = SharedLog("logs", numbers(5000), Masker, most=1000)
    gone = log.messages()
    await anext(gone)
    other = asyncio.create_task(taken(log))
    await asyncio.sleep(0.05)
    assert not other.done(), "the file is full, and one has not taken all"
    await gone.aclose()
    assert await other == shown(5000)
    await log.close()


async def test_what_becomes_secret_later_is_masked_from_then_on() -> None:
    secrets: set[str] = set()

    async def saying() -> AsyncGenerator[list[str], None]:
        yield ["first"]
        secrets.add("hunter2hunter2")
        yield ["token hunter2hunter2"]

    log = SharedLog("build_logs", saying(), lambda: Masker(secrets))
    assert await taken(log) == ["first", "token ***"]
    await log.close()


async def test_a_log_that_cannot_be_read_any_more_says_so_and_ends() -> None:
    async def breaking() -> AsyncGenerator[list[str], None]:
        yield ["one"]
        raise Temporary(Code.PLATFORM_UNREACHABLE, "away")

    log = SharedLog("logs", breaking(), Masker)
    assert await taken(log) == ["one", "… the log cannot be read any more: platform_unreachable: away …"]
    await log.close()


async def test_logs_are_shared_while_they_are_followed() -> None:
    logs, made = SharedLogs(), 0

    def make() -> SharedLog:
        nonlocal made
        made += 1
        return SharedLog("build_logs", numbers(10), Masker, lasting=True)

    async with logs.shared("a", make) as one, logs.shared("a", make) as same, logs.shared("b", make) as other:
        assert one is same is not other
        assert await taken(one) == shown(10)
    async with logs.shared("a", make) as again:
        assert again is not one
    assert made == 3
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("read")]
