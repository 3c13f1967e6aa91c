"""Hostile code in a build and in a preview tries what must be out of its reach. Each try is recorded.

A control stands beside the tries: the same tool reaches a listener of its own, so that a broken tool cannot
look like a wall.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from provider.client import Deployed
from provider.demo.git_server import File
from provider.demo.processes import clean_environment, run
from provider.demo.stack import Stack
from provider.demo.world import World
from tests.e2e.apps import app_files, cgi
from tests.e2e.helpers import (
    Visitor,
    containers,
    deployed,
    refused_deploy,
    serving,
)

CONTROL = "127.0.0.1:8081"
AT_ONCE = 40
ELSEWHERE = {"engine-socket", "engine", "bundles", "processes", "nats@own-gateway"}
SECRETS = r"x-access-token|NATS_URL|API_INTERNAL_TOKEN|nats-server|provider serve"
"""What processes of others say, in their environment or command line."""


@dataclass
class Listener:
    """Something on the host's loopback that must never hear of anybody."""

    address: str
    heard: list[bytes] = field(default_factory=list)


@contextlib.asynccontextmanager
async def listener(host: str = "127.0.0.1") -> AsyncIterator[Listener]:
    """Listens on a free port; whatever connects is remembered, and answered like a web server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                one.heard.append(await reader.read(4096))
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nheard\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    port = server.sockets[0].getsockname()[1]
    one = Listener(f"{host}:{port}")
    async with server:
        yield one


def address_of(container: dict[str, object], slug: str) -> tuple[str, str]:
    """(address, gateway) of a preview's container in its own network."""
    settings = container["NetworkSettings"]
    assert isinstance(settings, dict)
    network = settings["Networks"][f"x1-preview-{slug}"]
    return str(network["IPAddress"]), str(network["Gateway"])


async def targets(world: World, victim: Deployed, extra: Listener) -> dict[str, str]:
    """host:port by name of everything that hostile code must not reach."""
    stack = world.stack
    address, gateway = address_of(await serving(world, victim.slug), victim.slug)
    ports = {
        "nats": stack.nats.address.rpartition(":")[2],
        "registry": stack.registry.address.rpartition(":")[2],
        "caddy-admin": stack.caddy.address.rpartition(":")[2],
        "git": world.git.url.rpartition(":")[2],
        "api": world.api.url.rpartition(":")[2],
        "loopback": extra.address.rpartition(":")[2],
    }
    found = {f"{name}@{host}": f"{host}:{port}" for name, port in ports.items() for host in ("127.0.0.1", gateway)}
    return found | {"another-preview": f"{address}:8080"}


@pytest.fixture
async def metadata() -> AsyncIterator[Listener]:
    """A service at a link-local address of the machine, as a cloud's metadata service is one."""
    link, address = f"x1m{os.getpid()}", "169.254.77.77"
    env = clean_environment(Path("/"))
    for command in (("link", "add", link, "type", "bridge"), ("address", "add", f"{address}/32", "dev", link)):
        assert (await run("ip", *command, env=env, timeout=5))[0] == 0
    try:
        assert (await run("ip", "link", "set", link, "up", env=env, timeout=5))[0] == 0
        async with listener(address) as one:
            yield one
    finally:
        await run("ip", "link", "delete", link, env=env, timeout=5)


def listening_ports() -> set[int]:
    """Every TCP port that something on this machine listens on, whatever it is; name servers are for previews, too."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {int(line[1].rpartition(":")[2], 16) for line in lines if line[3] == "0A"} - {53}


def sweep() -> list[str]:
    """Lines that try every port of the machine over the gateway, some at a time; only those reached are named."""
    ports = sorted(listening_ports())
    lines = []
    for start in range(0, len(ports), AT_ONCE):
        some = ports[start : start + AT_ONCE]
        probes = (f"echo | nc -w 1 $gw {port} >/dev/null 2>&1 && echo REACHED port-{port} &" for port in some)
        lines += ["(", *probes, "wait )"]  # a shell of its own: as PID 1 it would also wait for the daemon above
    return [*lines, f"echo WALL {len(ports)}-ports"]


def tries(wanted: dict[str, str], stack: Stack, gateway: str = "$gw") -> str:
    """A shell script that tries each target, at once, and says REACHED or WALL for each."""
    socket, bundles = stack.engine.address.removeprefix("unix://"), stack.folder / "state" / "secrets"
    lines = [
        'probe() { if echo | nc -w 2 "$2" "$3" >/dev/null 2>&1; then echo "REACHED $1"; else echo "WALL $1"; fi; }',
        "gw=$(ip route 2>/dev/null | awk '/default/ {print $3}')",
        "httpd -p 127.0.0.1:8081 -h / 2>/dev/null",
        "probe control 127.0.0.1 8081",
    ]
    for name, where in wanted.items():
        host, _, port = where.rpartition(":")
        lines.append(f'probe "{name}" {host} {port} &')
        if host == "127.0.0.1":
            lines.append(f'[ -n "{gateway}" ] && probe "{name.split("@")[0]}@own-gateway" "{gateway}" {port} &')
    lines += [
        "wait",
        *sweep(),
        f'if [ -e "{socket}" ]; then echo "REACHED engine-socket"; else echo "WALL engine-socket"; fi',
        'if [ -e /run/podman/podman.sock ]; then echo "REACHED engine"; else echo "WALL engine"; fi',
        f'if [ -e "{bundles}" ]; then echo "REACHED bundles"; else echo "WALL bundles"; fi',
        "others=0",
        "for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do tr '\\0' '\\n' < $f 2>/dev/null |",
        f"grep -qE '{SECRETS}' && others=1; done",
        'if [ $others = 1 ]; then echo "REACHED processes"; else echo "WALL processes"; fi',
        'mount -t proc none /mnt 2>/dev/null && echo "REACHED mount"',
        "true",
    ]
    return "\n".join(lines)


def outcome(text: str) -> tuple[set[str], set[str]]:
    """(reached, walled) as the tries said."""
    return set(re.findall(r"^REACHED (\S+)", text, re.M)), set(re.findall(r"^WALL (\S+)", text, re.M))


async def test_hostile_preview_reaches_nothing(world: World, guest: Visitor, metadata: Listener) -> None:
    victim = await deployed(world, "victim-a")
    async with listener() as extra:
        wanted = await targets(world, victim, extra)
        wanted["metadata"] = metadata.address
        script = tries(wanted, world.stack)
        files = app_files("hostile", world.base_image) | {"www/cgi-bin/try": cgi(script)}
        done = await deployed(world, "hostile", files=files)
        # A network that goes must not take the walls of others with it, as netavark's own do.
        await deployed(world, "passing")
        await world.client.teardown("passing")
        reached, walled = outcome(await guest.text(done.url, "/cgi-bin/try"))
    assert reached == {"control"}
    assert {*wanted, *ELSEWHERE} <= walled
    assert any(name.endswith("-ports") for name in walled)
    assert extra.heard == metadata.heard == []


@contextlib.asynccontextmanager
async def accepting() -> AsyncIterator[None]:
    """Before all other rules, one that accepts: what netavark does when it makes the first network of a machine."""
    rule = ["FORWARD", "-i", "x1+", "-o", "x1+", "-m", "comment", "--comment", "tests", "-j", "ACCEPT"]
    environment = clean_environment(Path("/"))
    assert (await run("iptables", "-w", "-I", *rule, env=environment, timeout=10))[0] == 0
    try:
        yield
    finally:
        await run("iptables", "-w", "-D", *rule, env=environment, timeout=10)


async def test_preview_has_no_way_to_a_sibling_by_any_address(world: World, guest: Visitor) -> None:
    """Nor by the sibling's gateway, nor between two generations' networks of one preview, whatever others accept."""
    first = await deployed(world, "sibling-a")
    second = app_files("sibling-b", world.base_image)
    addresses = [address_of(one, "sibling-a")[0] for one in await containers(world.stack, "sibling-a")]
    gateway = address_of((await containers(world.stack, "sibling-a"))[0], "sibling-a")[1]
    script = "\n".join(
        f"echo | nc -w 2 {host} 8080 >/dev/null 2>&1 && echo REACHED {host} || echo WALL {host}"
        for host in [*addresses, gateway]
    )
    done = await deployed(world, "sibling-b", files=second | {"www/cgi-bin/try": cgi(script)})
    await deployed(world, "passing")
    await world.client.teardown("passing")
    async with accepting():
        reached, walled = outcome(await guest.text(done.url, "/cgi-bin/try"))
    assert (reached, walled) == (set(), {*addresses, gateway})
    assert await guest.text(first.url) == "hello\n"


async def test_hostile_build_reaches_nothing(world: World, metadata: Listener) -> None:
    victim = await deployed(world, "victim-b")
    async with listener() as extra:
        wanted = await targets(world, victim, extra)
        wanted["metadata"] = metadata.address
        files = app_files("hostile-build", world.base_image, dockerfile_extra="COPY try /try\nRUN sh /try")
        failed = await refused_deploy(
            world, "hostile-build", files | {"try": tries(wanted, world.stack) + "\nexit 9\n"}, budget_seconds=180
        )
    assert (failed.code, failed.reason) == ("kaniko_build_failed", "RunFailed")
    reached, walled = outcome("\n".join(failed.log_tail))
    assert reached == {"control"}
    assert {*wanted, *ELSEWHERE} <= walled
    assert any(name.endswith("-ports") for name in walled)
    assert extra.heard == metadata.heard == []


async def test_build_that_asks_for_the_hosts_network_does_not_get_it(world: World) -> None:
    async with listener() as extra:
        host, _, port = extra.address.rpartition(":")
        run = f"echo | nc -w 2 {host} {port} && echo REACHED host || echo WALL host; exit 9"
        for flag in ("--network=host", "--security=insecure"):
            files = app_files("hostnet", world.base_image, dockerfile_extra=f"RUN {flag} {run}")
            failed = await refused_deploy(world, "hostnet", files)
            assert failed.code == "kaniko_build_failed"
            assert outcome("\n".join(failed.log_tail))[0] == set()
    assert extra.heard == []


@pytest.mark.parametrize("what", ["registry", "caddy-admin", "loopback", "preview"])
async def test_add_of_a_url_reaches_nothing(world: World, what: str) -> None:
    """ADD is fetched by the build tool itself, not by a RUN step."""
    victim = await deployed(world, "victim-c")
    address, _ = address_of(await serving(world, "victim-c"), "victim-c")
    async with listener() as extra:
        url = {
            "registry": f"http://{world.stack.registry.address}/v2/_catalog",
            "caddy-admin": f"{world.stack.caddy.address}/config/",
            "loopback": f"http://{extra.address}/secret",
            "preview": f"http://{address}:8080/index.html",
        }[what]
        files = app_files("adder", world.base_image, dockerfile_extra=f"ADD {url} /www/stolen")
        # What is dropped is not refused: the tool would try for half a minute.
        failed = await refused_deploy(world, "adder", files, budget_seconds=8)
    assert (failed.code, failed.phase) in [("kaniko_build_failed", "build"), ("budget_exceeded", "build")]
    assert extra.heard == []
    assert victim.slug == "victim-c"


async def test_build_cannot_read_the_machine(world: World) -> None:
    """Mounts and copies from outside the context: nothing of the provider's state comes into the image."""
    state = world.stack.folder / "state"
    steps = {
        "copy": f"COPY {state}/lock /www/stolen",
        "copy-up": "COPY ../../../lock /www/stolen",
        "bind": f"RUN --mount=type=bind,source={state},target=/m sh -c 'ls /m/secrets && echo REACHED state; exit 9'",
        "bind-up": "RUN --mount=type=bind,source=../..,target=/m sh -c 'ls /m/../secrets /m/secrets && echo REACHED; exit 9'",  # noqa: E501
        "link": "COPY link /www/stolen\nRUN grep -q root:x:0:0:root:/root /www/stolen && echo REACHED link; exit 9",
    }
    for name, step in steps.items():
        files = app_files("reader", world.base_image, dockerfile_extra=step)
        failed = await refused_deploy(world, "reader", files | {"link": File("/etc/passwd", "120000")})
        assert failed.code == "kaniko_build_failed", name
        assert outcome("\n".join(failed.log_tail))[0] == set(), name
