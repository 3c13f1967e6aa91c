"""The local stack: every real server that the provider needs, on free loopback ports, below one folder.

    async with local_stack() as stack:
        settings = Settings(**stack.environment())   # or the environment of a child process

It starts in parallel, and ends without a trace: containers, networks, mounts, processes, folder. A stack
whose owner was killed is removed by the next one that starts. `python -m provider.demo.stack` runs one
until it is interrupted, and prints its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from provider.demo.engine import Limits, detect_limits, engine_environment, write_engine_configuration
from provider.demo.leftovers import own_folder, purge, sweep
from provider.demo.processes import (
    Server,
    StackError,
    cancelled_by_signals,
    clean_environment,
    free_port,
    uninterrupted,
)
from provider.demo.programs import check_machine

SUBNETS = 64
PREVIEW_DOMAIN = "preview.localhost"


@dataclass(frozen=True)
class Stack:
    """A running stack. Each server can be stopped, killed and started again on its own.

    `limits` is what containers can be given on this machine: `podman build` takes runtime and ulimits
    only as arguments.
    """

    folder: Path
    limits: Limits
    nats: Server
    registry: Server
    engine: Server
    caddy: Server
    ingress: str

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers, in the order in which one would start them one by one."""
        return self.nats, self.registry, self.engine, self.caddy

    def environment(self) -> dict[str, str]:
        """The environment for `Settings`, and for any `podman` that shall use the stack's engine."""
        return {
            "NATS_URL": self.nats.address,
            "REGISTRY_ADDRESS": self.registry.address,
            "REGISTRY_INSECURE": "true",
            "CONTAINER_HOST": self.engine.address,
            "CADDY_ADMIN_URL": self.caddy.address,
            "CADDY_LISTEN": self.ingress,
            "CADDY_ACCESS_ADDRESS": self.ingress,  # UDP, where nobody speaks HTTP/3
            "PUBLIC_PORT": self.ingress.rpartition(":")[2],
            "INGRESS_ADDRESS": self.ingress,
            "PREVIEW_DOMAIN": PREVIEW_DOMAIN,
            "STATE_DIR": str(self.folder / "state"),
            **engine_environment(self.folder),
        }

    async def first_death(self) -> Server:
        """Wait until any of the servers ends, and say which."""
        waits = {asyncio.create_task(server.died()): server for server in self.servers}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()


@contextlib.asynccontextmanager
async def local_stack(*, parent: Path | None = None, public_port: int | None = None) -> AsyncIterator[Stack]:
    """Start the stack, yield it, and remove every trace of it, whatever happened in between.

    Args:
        parent: where its folder is made (default: the machine's temporary folder).
        public_port: port of the previews' HTTPS (default: any free one).

    Raises:
        StackError: the machine lacks something, or a server did not start; nothing is left then either.
    """
    check_machine()
    await sweep(parent)
    with _subnet_ticket() as subnet_index, own_folder(parent) as folder:
        stack: Stack | None = None
        try:
            stack = _lay_out(folder, subnet_index, public_port or free_port())
            await _start(stack.servers)
            yield stack
        finally:
            await uninterrupted(_remove(folder, stack))


async def _start(servers: tuple[Server, ...]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(server.start())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _remove(folder: Path, stack: Stack | None) -> None:
    for server in reversed(stack.servers if stack else ()):
        await server.stop()
    await purge(folder)


@contextlib.contextmanager
def _subnet_ticket() -> Iterator[int]:
    """A number that no other living stack of this machine has; an abstract socket goes with its process."""
    for index in range(SUBNETS):
        with socket.socket(socket.AF_UNIX) as ticket:
            try:
                ticket.bind(f"\0x1-preview-stack-subnet-{index}")
            except OSError:
                continue
            yield index
            return
    raise StackError(f"{SUBNETS} local stacks are running already.")


def _lay_out(folder: Path, subnet_index: int, public_port: int) -> Stack:
    """Write every server's configuration; nothing runs yet."""
    limits = detect_limits()
    registry = registry_server(folder)
    write_engine_configuration(folder, limits, registry.address, subnet_index)
    (folder / "state").mkdir(mode=0o700)
    return Stack(
        folder=folder,
        limits=limits,
        nats=nats_server(folder),
        registry=registry,
        engine=_engine(folder),
        caddy=_caddy(folder),
        ingress=f"127.0.0.1:{public_port}",
    )


def nats_server(folder: Path, *, jetstream: bool = True) -> Server:
    """A NATS server on a free port, with JetStream's store below `folder` or without JetStream. Not started."""
    port = free_port()
    storage = ("--jetstream", "--store_dir", str(folder / "nats")) if jetstream else ()
    return Server(
        name="nats",
        argv=("nats-server", "--addr", "127.0.0.1", "--port", str(port), *storage),
        ready=r"Server is ready",
        folder=folder,
        env=clean_environment(folder),
        address=f"nats://127.0.0.1:{port}",
    )


def registry_server(folder: Path) -> Server:
    """An image registry on a free port, without TLS, its store below `folder`. Not started."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": address, "secret": secrets.token_hex(16)},
    }
    (folder / "registry.yml").write_text(json.dumps(config))  # JSON is YAML
    return Server(
        name="registry",
        argv=("docker-registry", "serve", str(folder / "registry.yml")),
        ready=r"listening on",
        folder=folder,
        env=clean_environment(folder),
        address=address,
    )


def _engine(folder: Path) -> Server:
    address = f"unix://{folder}/podman.sock"
    return Server(
        name="engine",
        argv=("podman", "--log-level", "info", "system", "service", "--time=0", address),
        ready=r"API service listening on",
        folder=folder,
        env={**clean_environment(folder), **engine_environment(folder)},
        address=address,
    )


def _caddy(folder: Path) -> Server:
    address = f"127.0.0.1:{free_port()}"
    config = {
        "admin": {"listen": address},
        "apps": {"pki": {"certificate_authorities": {"local": {"install_trust": False}}}},
    }
    (folder / "caddy.json").write_text(json.dumps(config))
    data = {"XDG_DATA_HOME": str(folder / "caddy" / "data"), "XDG_CONFIG_HOME": str(folder / "caddy" / "config")}
    return Server(
        name="caddy",
        # --resume: after a crash it serves what the provider had pushed, not this first configuration.
        argv=("caddy", "run", "--resume", "--config", str(folder / "caddy.json")),
        ready=r"serving initial configuration",
        folder=folder,
        env={**clean_environment(folder), **data},
        address=f"http://{address}",
    )


async def _main() -> None:
    async with cancelled_by_signals(), local_stack() as stack:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in stack.environment().items()]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
        dead = await stack.first_death()
        raise StackError(f"{dead.name} ended by itself.\n{dead.log_tail()}")


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except StackError as error:
        sys.exit(str(error))
    except asyncio.CancelledError:
        sys.exit(os.EX_OK)
