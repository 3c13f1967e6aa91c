"""Caddy's datagrams: which hosts were asked, whatever else arrives."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from provider.platforms.container.visits import Visits


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        yield one


def free_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def send(sender: socket.socket, address: str, *datagrams: bytes) -> None:
    host, _, port = address.rpartition(":")
    for data in datagrams:
        sender.sendto(data, (host, int(port)))


def test_each_host_once_and_only_hosts(sender: socket.socket) -> None:
    address = free_address()
    visits = Visits(address)
    visits.open()
    line = b'{"level":"info","msg":"handled request","request":{"proto":"HTTP/2.0","host":"%s"},"status":200}'
    send(sender, address, line % b"Shop.preview.test:8443", line % b"shop.preview.test", line % b"b.test")
    send(sender, address, b"", b"garbage", line % b"../../etc", line % b"a b", line % (b"x" * 300), b"\xff" * 5000)
    assert visits.hosts() == {"shop.preview.test", "b.test"}
    assert visits.hosts() == set()
    visits.close()
    assert visits.hosts() == set()


def test_a_flood_costs_what_the_buffer_holds(sender: socket.socket) -> None:
    address = free_address()
    visits = Visits(address)
    visits.open()
    send(sender, address, *[b'{"request":{"host":"a.test"}}'] * 30_000)
    assert visits.hosts() == {"a.test"}
    visits.hosts()
    send(sender, address, b'{"request":{"host":"b.test"}}')
    assert "b.test" in visits.hosts()
    visits.close()


def test_a_taken_address_or_none_is_no_reason_not_to_serve() -> None:
    first = Visits(free_address())
    first.open()
    second = Visits(first._address)
    second.open()
    none = Visits("")
    none.open()
    assert second.hosts() == none.hosts() == set()
    first.close()
