"""A build's log on its way: told as it comes, kept whole and bounded, secrets masked in all of it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr

from provider.errors import Code, Temporary
from provider.models import DeployRecord, Failure, Owner, Secret, SecretValues, StoredRequest, now
from provider.pipeline.logbook import Logbook, plain
from provider.settings import Settings
from provider.store import DiskShelf, KeptLog, Spool
from provider.store.build_logs import SUFFIX
from provider.store.object_logs import open_shelf


def record(deploy_id: str = "d", **fields: Any) -> DeployRecord:
    request = {"repo_full_name": "acme/app", "branch": "main", **fields.pop("request", {})}
    return DeployRecord(
        platform_id="here", deploy_id=deploy_id, owner=Owner(instance="a", epoch=1), fingerprint="f", slug="app",
        build_inputs="inputs", created_at=now(), deadline=now() + timedelta(hours=1),
        request=StoredRequest.model_validate(request), **fields,
    )  # fmt: skip


def lines_of(log: KeptLog) -> list[str]:
    return [line for piece in log.pieces() for line in piece]


def spooled(lines: Iterable[list[str]], most: int = 1 << 20) -> KeptLog:
    spool = Spool(most)
    for some in lines:
        spool.write(some)
    return KeptLog(spool.kept("d", complete=True))


def test_a_spool_gives_back_what_it_got() -> None:
    pieces = [[f"line {piece}/{number} ü" for number in range(200)] for piece in range(300)]
    log = spooled(pieces, most=16 << 20)
    assert lines_of(log) == [line for piece in pieces for line in piece]
    assert (log.info.lines, log.info.left_out, log.info.complete) == (60_000, 0, True)
    assert lines_of(log)[0] == "line 0/0 ü", "it can be read again"


def test_of_a_log_that_is_too_long_beginning_and_end_are_kept() -> None:
    log = spooled(([f"{number:07}"] for number in range(100_000)), most=200_000)
    lines = lines_of(log)
    assert lines[:2] == ["0000000", "0000001"]
    assert lines[-1] == "0099999"
    assert sum(len(line) + 1 for line in lines) < 210_000
    (gap,) = [line for line in lines if "left out" in line]
    assert gap == f"… {log.info.left_out} bytes of output left out …"
    assert log.info.left_out == 800_000 - sum(len(line) + 1 for line in lines if line != gap)


async def test_a_folder_keeps_what_has_room_and_is_not_too_old(tmp_path: Path) -> None:
    noise = os.urandom(60_000).hex()
    shelf = DiskShelf(tmp_path / "logs", most=150_000, age=60.0)
    for number in range(4):
        with cast(io.BytesIO, spooled([[noise[number:]]])._file) as file:
            file.seek(0)
            await shelf.put(f"k{number}", file)
        os.utime(tmp_path / "logs" / f"k{number}{SUFFIX}", (now().timestamp() - 10 + number,) * 2)
    assert await shelf.get("k0") is None, "the oldest went"
    kept = await shelf.get("k3")
    assert kept is not None
    assert lines_of(kept) == [noise[3:]]
    kept.close()
    os.utime(tmp_path / "logs" / f"k3{SUFFIX}", (now().timestamp() - 61,) * 2)
    assert await shelf.get("k3") is None
    assert await shelf.get("never") is None


def logbook(folder: Path, **more: Any) -> Logbook:
    return Logbook(shelf=DiskShelf(folder, most=1 << 20, age=60.0), most=1 << 20, **more)


async def kept_lines(book: Logbook) -> list[str] | None:
    found = await book.kept("app", "inputs")
    if found is None:
        return None
    with found._file:
        return lines_of(found)


async def test_what_is_told_and_kept_and_answered_is_masked(tmp_path: Path) -> None:
    book, told = logbook(tmp_path, secrets=lambda: frozenset({"internal-token"})), list[str]()
    values = SecretValues(secrets={"A": Secret("s3cret-value")}, extra_env={"B": Secret("other-value")})
    book.learn("d", plain(values))
    log = book.build_log(record(), told.extend)
    log(["begin s3cret-", "value", "other%2Dvalue"])
    book.learn("d", ["minted-later"])
    log(["a minted-later token", "internal-token", "s3cret"])
    book.keep(record(), log, complete=True)
    await book.close(5.0)
    expected = ["begin ***", "", "***", "a *** token", "***", "s3cret"]
    assert told == expected
    assert await kept_lines(book) == expected
    assert list(log.tail) == expected
    failed = Failure(code=Code.VERIFY_FAILED, message="got s3cret-value", reason="r", log_tail=("x s3cret-", "value"))
    masked = book.masked(record(failure=failed, warnings=("b64 czNjcmV0LXZhbHVl",)))
    assert masked.failure is not None
    assert (masked.failure.message, masked.failure.log_tail) == ("got ***", ("x ***", ""))
    assert masked.warnings == ("b64 ***",)
    data = book.event_data(record(), {"message": "is other-value", "url": "https://other-value.example", "seconds": 1})
    assert data == {"message": "is ***", "url": "https://other-value.example", "seconds": 1}
    book.forget("d")
    assert book.masked(record(failure=failed)).failure == failed


def test_what_is_secret_of_the_process_may_become_more(tmp_path: Path) -> None:
    always = {"first-password"}
    book = logbook(tmp_path, secrets=lambda: frozenset(always))
    book.learn("d", ["s3cret-value"])
    looking = book.masking("d", frozenset({"bundled-value"}))
    text = "first-password next-password s3cret-value bundled-value"
    assert book.masker("d").text(text) == "*** next-password *** bundled-value"
    assert looking().text(text) == "*** next-password *** ***"
    always.add("next-password")
    assert book.masker().text(text) == "*** *** s3cret-value bundled-value"
    assert book.masker("d").text(text) == "*** *** *** bundled-value"
    assert looking().text(text) == "*** *** *** ***"
    assert book.masker("d") is book.masker("d"), "made once"


async def test_a_follower_that_was_cut_off_does_not_replace_a_whole_log(tmp_path: Path) -> None:
    book = logbook(tmp_path)
    cut, whole = book.build_log(record(), lambda _: None), book.build_log(record(), lambda _: None)
    cut(["one"])
    book.keep(record(), cut, complete=False)
    await book.close(5.0)
    assert await kept_lines(book) == ["one"], "better than nothing"
    stale = book.build_log(record(), lambda _: None)
    stale(["one", "tw"])
    whole(["one", "two"])
    book.keep(record("e"), whole, complete=True)
    await book.close(5.0)
    book.keep(record(), stale, complete=False)
    await book.close(5.0)
    assert await kept_lines(book) == ["one", "two"]


class Secrets:
    """A platform that knows staged values, or is away."""

    def __init__(self, values: frozenset[str] | None) -> None:
        self.values = values

    async def secret_values(self, staged: str, bundles: tuple[Any, ...]) -> frozenset[str]:
        if self.values is None:
            raise Temporary(Code.PLATFORM_UNREACHABLE, "away")
        return self.values


async def test_a_provider_that_takes_a_deploy_over_asks_for_its_secrets(
    tmp_path: Path,
) -> None:
    taken = record(staged="st", request={"secret_names": ("A",)})
    for values, shown in ((frozenset({"s3cret-value"}), ["x ***"]), (None, ["***"])):
        book, told = logbook(tmp_path, patience=0.05), list[str]()
        await book.recall(taken, cast(Any, Secrets(values)))
        log = book.build_log(taken, told.extend)
        log(["x s3cret-value"])
        log.end()
        assert told == shown, "unknown values: nothing is shown"
    book = logbook(tmp_path)
    await book.recall(record(), cast(Any, Secrets(None)))
    assert book.masker("d").idle, "without secrets nobody is asked"
    joining = record(request={"secret_names": ("A",)}, staged="")
    await book.recall(joining, cast(Any, Secrets(None)))
    assert book.masker("d").idle, "a repeated request has no secrets of its own: its answer is the first one's"


async def test_without_a_bus_that_keeps_things_logs_are_on_disk(tmp_path: Path) -> None:
    assert isinstance(await open_shelf(None, "x", tmp_path, most=1, age=1.0), DiskShelf)


def test_the_settings_know_what_is_secret_of_them() -> None:
    settings = Settings(nats_url="nats://u:p%40ss@a:1,nats://b:2", api_internal_token=SecretStr("t0ken"))
    assert settings.secrets() == {"p@ss", "t0ken"}
    assert Settings(nats_url="nats://t0ken@a:1").secrets() == {"t0ken"}, "a name alone is a token"
    assert Settings().secrets() == frozenset()


async def test_what_a_follower_that_was_cut_off_spooled_is_closed(tmp_path: Path) -> None:
    book = logbook(tmp_path)
    whole, stale = book.build_log(record(), lambda _: None), book.build_log(record(), lambda _: None)
    for log, complete in ((whole, True), (stale, False)):
        log(["one"])
        book.keep(record(), log, complete=complete)
        await book.close(5.0)
        assert cast(io.BytesIO, log.spool._file).closed
