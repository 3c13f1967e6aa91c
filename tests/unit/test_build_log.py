"""A build's log keeps its beginning and its end, and says what it left out."""

from __future__ import annotations

import os
from pathlib import Path

from provider.platforms.container.build_log import BoundedLog
from provider.platforms.container.build_network import resolver


def test_short_output_is_written_as_it_comes(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log", head=10, tail=4)
    log.write(b"0123456789")
    assert (tmp_path / "log").read_bytes() == b"0123456789"
    log.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789"


def test_nothing_is_left_out_where_the_tail_holds_it(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log", head=4, tail=4)
    log.write(b"01234567")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"01234567"


def test_the_end_is_kept(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log", head=4, tail=4)
    for number in range(100):
        log.write(b"%04d" % number)
    log.close()
    text = (tmp_path / "log").read_text()
    assert text == "0000\n… 392 bytes of output left out …\n0099"


def test_output_whose_other_end_stays_open_ends_with_the_process(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"said")
    log = BoundedLog(tmp_path / "log")
    log.copy(reading, lambda: True)
    log.close()
    os.close(reading)
    os.close(writing)
    assert (tmp_path / "log").read_text() == "said"


def test_the_resolver_is_one_that_builds_can_reach(tmp_path: Path) -> None:
    local, uplink = tmp_path / "local", tmp_path / "uplink"
    local.write_text("# stub\nnameserver 127.0.0.53\n")
    uplink.write_text("nameserver 192.0.2.1\n")
    assert resolver((local, uplink)) == str(uplink)
    assert resolver((uplink, local)) == ""
    assert resolver((local, tmp_path / "absent")) == ""
