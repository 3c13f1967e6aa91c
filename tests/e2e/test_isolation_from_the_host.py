"""What listens on all addresses of the machine is out of reach for builds and previews, over any of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from provider.demo.processes import clean_environment, run
from provider.demo.world import World
from tests.e2e.apps import app_files, cgi
from tests.e2e.helpers import Visitor, deployed, refused_deploy, serving

CONNECT = """
import socket, sys
family, host, port = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0][0], sys.argv[1], int(sys.argv[2])
scope = socket.if_nametoindex("eth0") if family == socket.AF_INET6 else 0
with socket.socket(family) as one:
    one.settimeout(1)
    one.connect((host, port, 0, scope) if scope else (host, port))
"""


@contextlib.asynccontextmanager
async def open_to_all() -> AsyncIterator[tuple[int, list[object]]]:
    """(port, who came) of a listener on every address of the machine, IPv4 and IPv6."""
    heard: list[object] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(writer.get_extra_info("peername"))
        writer.close()

    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        async with await asyncio.start_server(answer, sock=listening):
            yield listening.getsockname()[1], heard


def own_address() -> str:
    """The address by which the machine goes out."""
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))
        return str(one.getsockname()[0])


async def link_addresses() -> list[str]:
    """The machine's IPv6 addresses on the bridges of previews."""
    show = ("ip", "-6", "-oneline", "address", "show", "scope", "link")
    _, output = await run(*show, env=clean_environment(Path("/")), timeout=5)
    return [line.split()[3].partition("/")[0] for line in output.splitlines() if " x1p" in line]


def tries(port: int) -> str:
    gateway = "$(ip route | awk '/default/ {print $3}')"
    lines = [f"echo | nc -w 1 {host} {port} && echo REACHED || echo WALL" for host in (gateway, own_address())]
    return "\n".join(lines)


async def test_a_build_reaches_nothing_on_the_machine(world: World) -> None:
    async with open_to_all() as (port, heard):
        files = app_files("to-host", world.base_image, dockerfile_extra="COPY try /try\nRUN sh /try; exit 9")
        failure = await refused_deploy(world, "to-host", files | {"try": tries(port)})
    assert [line for line in failure.log_tail if line in {"WALL", "REACHED"}] == ["WALL", "WALL"]
    assert heard == []


async def test_a_preview_reaches_nothing_on_the_machine(world: World, guest: Visitor) -> None:
    async with open_to_all() as (port, heard):
        files = app_files("from-app", world.base_image) | {"www/cgi-bin/try": cgi(tries(port))}
        done = await deployed(world, "from-app", files=files)
        assert (await guest.text(done.url, "/cgi-bin/try")).split() == ["WALL", "WALL"]
        container = await serving(world, "from-app")
        inside = f"--net=/proc/{container['State']['Pid']}/ns/net"
        connect = ("nsenter", inside, sys.executable, "-c", CONNECT)
        ended = await asyncio.gather(
            *(
                run(*connect, address, str(port), env=clean_environment(Path("/")), timeout=20)
                for address in await link_addresses()
            )
        )
        assert all(status != 0 for status, _ in ended)
    assert heard == []
