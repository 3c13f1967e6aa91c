"""The local stack: it starts, each server answers and comes back after a kill, and nothing is ever left."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import select
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import nats
import nats.js.errors
import pytest

from provider.demo.base_image import push_base_image
from provider.demo.leftovers import PREFIX, mounts_below, processes_of, sweep
from provider.demo.processes import Server, StackError, clean_environment, run, until_open
from provider.demo.programs import check_machine, missing_programs
from provider.demo.sample_app import broken_build_files, never_healthy_files, sample_files
from provider.demo.stack import Stack, local_stack
from provider.settings import Settings

SERVERS = ("nats", "registry", "engine", "caddy")
IDLE = ("/bin/sleep", "1000")


# ------------------------------------------------------------------------------ helpers


async def podman(stack: Stack, *arguments: str) -> str:
    """Run podman on the stack's engine; without CONTAINER_HOST, which would make it a remote client."""
    env = {**clean_environment(stack.folder), **stack.environment()}
    del env["CONTAINER_HOST"]
    status, output = await run("podman", *arguments, env=env, timeout=60)
    assert status == 0, output
    return output.strip()


async def build(stack: Stack, base: str, files: dict[str, str], context: Path) -> tuple[int, str, str]:
    for path, content in files.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text(content)
    env = {**clean_environment(stack.folder), **stack.environment()}
    del env["CONTAINER_HOST"]
    image = f"{stack.registry.address}/test/{context.name}:1"
    ulimits = [f"--ulimit={limit}" for limit in stack.limits.ulimits]
    command = ("podman", "--runtime", stack.limits.runtime, "build", *ulimits, f"--build-arg=BASE={base}", "-t", image)
    return *(await run(*command, str(context), env=env, timeout=60)), image


async def answers(stack: Stack, name: str) -> None:
    """Ask one server something that only a working one answers."""
    if name == "nats":
        client = await nats.connect(stack.nats.address)
        await client.jetstream().account_info()
        await client.close()
        return
    socket = stack.engine.address.removeprefix("unix://") if name == "engine" else None
    url = {
        "registry": f"http://{stack.registry.address}/v2/",
        "engine": "http://engine/_ping",
        "caddy": f"{stack.caddy.address}/config/",
    }[name]
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket)) as http:
        assert (await http.get(url)).status_code == 200


async def container_in(stack: Stack, base: str, network: str = "apart") -> str:
    """A running container on a network of its own; the name of its bridge."""
    await podman(stack, "network", "create", network)
    await podman(stack, "run", "--detach", "--network", network, base, *IDLE)
    return str(json.loads(await podman(stack, "network", "inspect", network))[0]["network_interface"])


def entries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def left_of(folder: Path) -> list[object]:
    return [*folder.parent.glob(folder.name), *processes_of(folder), *mounts_below(folder)]


async def assert_gone(folder: Path, subnet: str) -> None:
    assert left_of(folder) == []
    _, addresses = await run("ip", "-brief", "address", env=clean_environment(Path("/")), timeout=10)
    assert subnet not in addresses
    _, rules = await run("iptables-save", env=clean_environment(Path("/")), timeout=10)
    assert subnet not in rules


def subnet_of(stack: Stack) -> str:
    """How every address of the stack's networks begins: "10.130."."""
    found = re.search(r'base = "(10\.\d+\.)', (stack.folder / "containers.conf").read_text())
    assert found
    return found.group(1)


def servers_of(folder: Path) -> list[int]:
    """The processes that serve, without conmon and what runs in containers."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in processes_of(folder)}
    return [pid for pid, name in names.items() if name in {"nats-server", "docker-registry", "podman", "caddy"}]


def ended(pidfd: int) -> bool:
    """Wait for a process's end."""
    ready, _, _ = select.select([pidfd], [], [], 10)
    os.close(pidfd)
    return bool(ready)


OWNER = """
import asyncio, json, pathlib, sys
from provider.demo.base_image import push_base_image
from provider.demo.processes import cancelled_by_signals
from provider.demo.stack import local_stack
from tests.e2e.test_stack import container_in, subnet_of

async def main():
    async with cancelled_by_signals(), local_stack(parent=pathlib.Path(sys.argv[1])) as stack:
        await container_in(stack, await push_base_image(stack.registry.address, stack.folder))
        print(json.dumps([str(stack.folder), subnet_of(stack)]), flush=True)
        await stack.first_death()

asyncio.run(main())
"""


@asynccontextmanager
async def owner_process(parent: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path, str]]:
    """Another process that owns a stack with a container in it; the stack's folder and subnet."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(parent)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        folder, subnet = json.loads(await process.stdout.readline())
        yield process, Path(folder), subnet
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def page_of(stack: Stack, image: str, *options: str) -> str:
    """What the app in `image` answers to `GET /`, header and body, as it would run in a preview."""
    hard = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--publish=127.0.0.1::8080")
    container = await podman(stack, "run", "--detach", *hard, *options, image)
    address = await podman(stack, "port", container, "8080")
    await until_open(address, timeout=5)
    curl = ("curl", "--silent", "--include", f"http://{address}/")
    status, answer = await run(*curl, env=clean_environment(stack.folder), timeout=10)
    await podman(stack, "rm", "--force", "--time", "0", container)
    assert status == 0, answer
    return answer


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's (pytest's own are too long)."""
    with tempfile.TemporaryDirectory(prefix="x1-") as folder:
        yield Path(folder)


# -------------------------------------------------------------------------------- tests


async def test_its_environment_makes_settings(own_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in own_stack.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.nats_url == own_stack.nats.address
    assert settings.container_host == f"unix://{own_stack.folder}/podman.sock"
    assert settings.caddy_listen == settings.ingress_address == f"127.0.0.1:{settings.public_port}"
    assert settings.preview_domain == "preview.localhost"
    assert settings.registry_insecure
    assert settings.state_dir.is_dir()


@pytest.mark.parametrize("name", SERVERS)
async def test_each_server_answers_and_again_after_a_kill_and_a_stop(own_stack: Stack, name: str) -> None:
    server: Server = getattr(own_stack, name)
    await answers(own_stack, name)
    await server.kill()
    assert server.pid is None
    await server.start()
    await answers(own_stack, name)
    await server.stop()
    await server.start()
    await answers(own_stack, name)


async def test_caddy_comes_back_with_what_was_pushed(own_stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=own_stack.caddy.address) as client:
        (await client.put("/config/apps/http", json={"servers": {}})).raise_for_status()
        await own_stack.caddy.kill()
        await own_stack.caddy.start()
        assert (await client.get("/config/apps/http")).json() == {"servers": {}}


async def test_containers_outlive_a_killed_engine(own_stack: Stack) -> None:
    await container_in(own_stack, await push_base_image(own_stack.registry.address, own_stack.folder))
    await own_stack.engine.kill()
    await own_stack.engine.start()
    assert (await podman(own_stack, "ps", "--format", "{{.Status}}")).startswith("Up ")


async def test_a_death_is_noticed(own_stack: Stack) -> None:
    waiting = asyncio.create_task(own_stack.first_death())
    assert own_stack.registry.pid
    os.kill(own_stack.registry.pid, signal.SIGKILL)
    assert await waiting is own_stack.registry
    assert await own_stack.registry.died() == -signal.SIGKILL


async def test_two_stacks_side_by_side_and_nothing_left() -> None:
    async with local_stack() as one, local_stack() as two:
        base_one, base_two = await asyncio.gather(
            push_base_image(one.registry.address, one.folder), push_base_image(two.registry.address, two.folder)
        )
        await container_in(one, base_one, "first")
        await container_in(two, base_two, "second")
        subnets = subnet_of(one), subnet_of(two)
        assert len(set(subnets)) == 2
        assert not {server.address for server in one.servers} & {server.address for server in two.servers}
        assert "second" not in await podman(one, "network", "ls", "--format", "{{.Name}}")
        assert len(processes_of(two.folder)) >= len(SERVERS) + 2  # and conmon, and what runs in the container
    for folder, subnet in zip((one.folder, two.folder), subnets, strict=True):
        await assert_gone(folder, subnet)


async def test_nothing_is_left_when_the_body_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        async with local_stack() as stack:
            raise ZeroDivisionError
    assert not stack.folder.exists()


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.06])
async def test_nothing_is_left_when_the_start_is_cancelled(short: Path, after: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after), local_stack(parent=short):
            await asyncio.Event().wait()
    assert entries(short) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_and_nothing_is_left(short: Path, number: signal.Signals) -> None:
    async with owner_process(short) as (process, folder, subnet):
        process.send_signal(number)
        await process.wait()
        await assert_gone(folder, subnet)


async def test_a_killed_owner_leaves_no_server_and_the_next_start_sweeps(short: Path) -> None:
    async with owner_process(short) as (process, folder, subnet):
        assert folder.name.startswith(f"{PREFIX}{process.pid}-")
        assert await sweep(short) == [], "a living stack was swept"
        servers = [os.pidfd_open(pid) for pid in servers_of(folder)]
        assert len(servers) == len(SERVERS)
        process.kill()
        assert all(ended(pidfd) for pidfd in servers)
    assert processes_of(folder), "the container should run on: nobody was left to stop it"
    async with local_stack(parent=short):
        await assert_gone(folder, subnet)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path, nats_server: Server) -> None:
    twin = dataclasses.replace(nats_server, name="twin", folder=tmp_path)
    with pytest.raises(StackError, match=r"(?s)twin ended at once with status 1.*address already in use"):
        await twin.start()
    assert twin.pid is None


async def test_nats_without_jetstream(nats_plain: Server) -> None:
    client = await nats.connect(nats_plain.address)
    with pytest.raises(nats.js.errors.ServiceUnavailableError):
        await client.jetstream().account_info()
    await client.close()


async def test_missing_programs_are_all_named(tmp_path: Path) -> None:
    assert missing_programs() == {}
    with pytest.raises(StackError, match=r"(?s)caddy \(package caddy\).*busybox-static.*apt-get install"):
        check_machine(search_path=str(tmp_path))


async def test_the_sample_builds_and_serves(stack: Stack, base_image: str, tmp_path: Path) -> None:
    files = sample_files(base_image, commit_message="A <b> & c", story="One.\n\nTwo.", accent="#123456")
    status, output, image = await build(stack, base_image, files, tmp_path / "good")
    assert status == 0, output
    page = await page_of(stack, image, "-e=COMMIT_SHA=0123456789abcdef")
    assert page.startswith("HTTP/1.1 200 OK")
    for text in ("A &lt;b&gt; &amp; c", "<p>One.</p>", "<p>Two.</p>", "#123456", ">0123456789ab<", " UTC</time>"):
        assert text in page
    assert "{{" not in page
    assert "@" not in re.sub(r"@(media|keyframes)", "", page)


async def test_the_broken_sample_fails_its_build(stack: Stack, base_image: str, tmp_path: Path) -> None:
    status, output, _ = await build(stack, base_image, broken_build_files(base_image), tmp_path / "broken")
    assert status != 0
    assert "app/checkout.ts:42:17 - error" in output


async def test_the_never_healthy_sample_answers_503(stack: Stack, base_image: str, tmp_path: Path) -> None:
    status, output, image = await build(stack, base_image, never_healthy_files(base_image), tmp_path / "unhealthy")
    assert status == 0, output
    assert (await page_of(stack, image)).startswith("HTTP/1.1 503")
