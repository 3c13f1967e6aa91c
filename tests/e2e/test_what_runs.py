"""What a spec says is what runs: environment, secrets, volumes, limits, hardening, and what lies before the app."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from provider.client import new_deploy_id
from provider.demo.world import World
from tests.e2e.apps import app_files, cgi
from tests.e2e.helpers import (
    Visitor,
    containers,
    deploy,
    deployed,
    eventually,
    podman,
    refused_deploy,
    serving,
    steady_load,
    with_settings,
)

MIB = 1 << 20


async def environment(guest: Visitor, url: str) -> dict[str, str]:
    """What the app's own `env` says."""
    lines = (await guest.text(url, "/cgi-bin/env")).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


async def test_environment_has_every_source(world: World, guest: Visitor) -> None:
    sources = [
        {"name": "PLAIN", "value": "a $HOME {{x}} 'q' \"d\" $(PATH)"},
        {"name": "NUMBER", "value": 7},
        {"name": "LITERAL", "from": "literal", "value": "lit"},
        {"name": "SECRET", "from": "secret:TOKEN"},
        {"name": "SELF", "from": "preview.self_url"},
        {"name": "OVERRIDDEN", "value": "from the spec"},
        {"name": "BY_EXTRA", "from": "secret:NOT_SENT"},
        {"name": "MISSING", "from": "secret:NOBODY_SENT"},
    ]
    files = app_files("env", world.base_image, spec_extra={"env": sources})
    done = await deployed(
        world,
        "env",
        files=files,
        secret_values={"TOKEN": "s3cret", "NOT_USED": "never"},
        extra_env={"OVERRIDDEN": "from the request", "BY_EXTRA": "given", "ONLY_EXTRA": "extra\tvalue"},
    )
    found = await environment(guest, done.url)
    wanted = {
        "PLAIN": "a $HOME {{x}} 'q' \"d\" $(PATH)",
        "NUMBER": "7",
        "LITERAL": "lit",
        "SECRET": "s3cret",
        "SELF": done.url,
        "OVERRIDDEN": "from the request",
        "BY_EXTRA": "given",
        "MISSING": "",
        "ONLY_EXTRA": "extra\tvalue",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert "never" not in found.values()
    assert len(done.warnings) == 1
    assert "NOBODY_SENT" in done.warnings[0]


async def test_only_a_secret_changed_rolls_the_app(world: World, guest: Visitor) -> None:
    files = app_files("roll", world.base_image, spec_extra={"env": [{"name": "KEY", "from": "secret:KEY"}]})
    first = await deployed(world, "roll", files=files, secret_values={"KEY": "old"})
    same = await deploy(world, "roll", first.commit_sha, secret_values={"KEY": "old"})
    assert (await environment(guest, same.url))["KEY"] == "old"
    before = await serving(world, "roll")
    assert before["Config"]["Labels"]["preview.x1agent.io/generation"] == "1"
    async with steady_load(guest, first.url) as load:
        second = await deploy(world, "roll", first.commit_sha, secret_values={"KEY": "new"})
    assert (await environment(guest, second.url))["KEY"] == "new"
    assert second.built is False
    assert load.failed == []
    assert (await serving(world, "roll"))["Id"] != before["Id"]


async def test_secret_values_show_nowhere(world: World) -> None:
    """Not in arguments, titles, logs, records, events, replies, labels: only where the app itself gets them."""
    secret, extra = "hunter2-SECRET-7e21", "hunter3-EXTRA-99c4"
    hidden = {secret, extra, world.token.get_secret_value()}
    env = [{"name": "KEY", "from": "secret:KEY"}, {"name": "LIST", "from": "secret:LIST"}]
    files = app_files("hush", world.base_image, dockerfile_extra="RUN env", spec_extra={"env": env})
    deploy_id = new_deploy_id()
    seen: set[str] = set()
    watching = asyncio.create_task(_watch_arguments(hidden, seen))
    try:
        done = await deployed(
            world, "hush", files=files, deploy_id=deploy_id, secret_values={"KEY": secret}, extra_env={"E": extra}
        )
        failed = await refused_deploy(
            world, "hush", {**files, "Dockerfile": "FROM scratch\nCOPY absent /\n"}, secret_values={"KEY": secret}
        )
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert seen == set()
    status = (await world.client.status("hush")).reply, (await world.client.status(deploy_id=deploy_id)).reply
    told = json.dumps([done.reply, failed.reply, *status])
    labels = [[one["Config"]["Labels"], one["Args"], one["Path"]] for one in await containers(world.stack, "hush")]
    assert not [value for value in hidden if value in told + json.dumps(labels)]

    async def kept() -> bool:
        return await asyncio.to_thread(_files_with, {deploy_id}, world.stack.folder) != []

    await eventually(kept, what="the records are on disk, so that looking there proves something")
    assert await asyncio.to_thread(_files_with, hidden, world.stack.folder) == []


async def _watch_arguments(hidden: set[str], seen: set[str]) -> None:
    while True:
        arguments = await asyncio.to_thread(_all_arguments)
        seen.update(value for value in hidden if value.encode() in arguments)


def _all_arguments() -> bytes:
    """The command lines of every process of the machine."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes() + b"\n"
    return found


def _files_with(wanted: set[str], folder: Path) -> list[str]:
    """Files that hold one of the texts: records and events as NATS keeps them, logs, what the provider wrote."""
    places = [*folder.glob("nats/**/*"), *folder.glob("*.log"), *folder.glob("state/**/*")]
    own = folder / "state" / "secrets"
    found = []
    for path in places:
        if path.is_file() and not path.is_relative_to(own):
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                found += [str(path) for value in wanted if value.encode() in content]
    return found


async def test_volumes_are_writable(world: World, guest: Visitor) -> None:
    volumes = [
        {"name": "memory", "kind": "tmpfs", "mountPath": "/memory", "sizeLimit": "1Mi"},
        {"name": "disk", "kind": "emptyDir", "mountPath": "/disk", "sizeLimit": "8Mi"},
    ]
    script = (
        "for f in /memory /disk; do echo yes > $f/file && cat $f/file; done; df -k /memory | tail -n 1; "
        "dd if=/dev/zero of=/memory/big bs=1024 count=2048 2>&1 | grep -i 'no space'; id -u"
    )
    extra = "USER 65534:65534"
    files = app_files("volumes", world.base_image, dockerfile_extra=extra, spec_extra={"volumes": volumes})
    done = await deployed(world, "volumes", files=files | {"www/cgi-bin/write": cgi(script)})
    lines = (await guest.text(done.url, "/cgi-bin/write")).splitlines()
    assert lines[:2] == ["yes", "yes"]
    assert lines[2].split()[1] == "1024"
    assert "No space left" in lines[3]
    assert lines[4] == "65534"
    assert [line for line in done.warnings if "disk" in line and "sizeLimit" in line] != []
    container = await serving(world, "volumes")
    volume = next(one["Name"] for one in container["Mounts"] if one["Destination"] == "/disk")
    await world.client.teardown("volumes")
    assert volume not in await podman(world.stack, "volume", "ls", "--quiet")


async def test_limits_and_hardening(world: World, guest: Visitor) -> None:
    resources = {"limits": {"cpu": "250m", "memory": "48Mi"}, "requests": {"cpu": "50m", "memory": "16Mi"}}
    status = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status; id -u; ls -d /sys/firmware/*"
    files = app_files(
        "hard", world.base_image, port=80, dockerfile_extra="USER 65534:65534", spec_extra={"resources": resources}
    )
    done = await deployed(world, "hard", files=files | {"www/cgi-bin/status": cgi(status)})
    lines = (await guest.text(done.url, "/cgi-bin/status")).splitlines()
    facts = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert {name: value for name, value in facts.items() if name.startswith("Cap") and int(value, 16)} == {}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert "65534" in lines  # and yet it answers on port 80
    container = await serving(world, "hard")
    host = container["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (48 * MIB, 250_000_000, 256)
    assert host["MemorySwap"] == 48 * MIB
    assert (host["Privileged"], host["ReadonlyRootfs"]) == (False, False)
    assert container["EffectiveCaps"] in (None, [])
    private = {host[kind] for kind in ("PidMode", "IpcMode", "UTSMode")}
    assert "host" not in private
    assert list(container["NetworkSettings"]["Networks"]) == ["x1-preview-hard"]
    assert host["RestartPolicy"]["Name"] == "always"


@with_settings(READ_ONLY_ROOT="true", PREVIEW_PIDS="20")
async def test_read_only_root_and_few_processes(own_world: World, own_guest: Visitor) -> None:
    volumes = [{"name": "scratch", "kind": "tmpfs", "mountPath": "/scratch"}]
    write = "echo x > /www/new 2>&1 || echo refused; echo x > /scratch/new && echo written"
    fork = "for i in $(seq 40); do sleep 3 & done 2>&1; wait"
    files = app_files("readonly", own_world.base_image, spec_extra={"volumes": volumes})
    done = await deployed(
        own_world, "readonly", files=files | {"www/cgi-bin/write": cgi(write), "www/cgi-bin/fork": cgi(fork)}
    )
    text = await own_guest.text(done.url, "/cgi-bin/write")
    assert ("refused" in text, "written" in text) == (True, True)
    container = await serving(own_world, "readonly")
    assert (container["HostConfig"]["ReadonlyRootfs"], container["HostConfig"]["PidsLimit"]) == (True, 20)
    assert "can't fork" in (await own_guest.get(done.url, "/cgi-bin/fork")).text


async def test_build_arguments_and_context(world: World, guest: Visitor) -> None:
    files = {
        **app_files("context", world.base_image, spec_extra={"entrypoint": {"path": "deploy/Containerfile"}}),
        "deploy/Containerfile": f"FROM {world.base_image}\nARG WHO\nCOPY site /www\nRUN echo $WHO > /www/who\n"
        'CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]\n',
        "app/site/index.html": "from the context\n",
    }
    spec = json.loads(str(files[".x1agent/preview.yaml"]))
    spec["spec"]["entrypoint"] |= {"buildContext": "app", "args": {"WHO": "an argument"}}
    done = await deployed(world, "context", files=files | {".x1agent/preview.yaml": json.dumps(spec)})
    assert await guest.text(done.url) == "from the context\n"
    assert await guest.text(done.url, "/who") == "an argument\n"
    labels = (await serving(world, "context"))["Image"]
    image = json.loads(await podman(world.stack, "image", "inspect", labels))[0]["Labels"]
    assert image["org.opencontainers.image.source"] == f"{world.git.url}/acme/context"
    assert image["org.opencontainers.image.revision"] == done.commit_sha
    assert image["org.opencontainers.image.created"].startswith("20")


async def test_additional_headers(world: World, guest: Visitor) -> None:
    headers = {"X-Frame-Options": "DENY", "X-Odd": "{env.HOME} $1", "X-Preview-Commit": "forged"}
    files = app_files("headers", world.base_image, spec_extra={"ingress": {"additionalHeaders": headers}})
    done = await deployed(world, "headers", files=files)
    answer = await guest.get(done.url)
    assert (answer.headers["X-Frame-Options"], answer.headers["X-Odd"]) == ("DENY", "{env.HOME} $1")
    assert answer.headers["X-Preview-Commit"] == done.commit_sha


@pytest.mark.parametrize("strips", [True, False])
async def test_path_prefix(world: World, guest: Visitor, strips: bool) -> None:
    name = f"prefix-{'cut' if strips else 'kept'}"
    spec = {"runtime": {"path": "/shop"}, "ingress": {"stripPath": strips}}
    files = app_files(name, world.base_image, body="root\n", spec_extra=spec)
    files |= {"www/shop/index.html": "shop\n", "www/item": "item\n", "www/shop/item": "shop item\n"}
    done = await deployed(world, name, files=files)
    assert await guest.text(done.url, "/shop/") == ("root\n" if strips else "shop\n")
    assert await guest.text(done.url, "/shop/item") == ("item\n" if strips else "shop item\n")
    assert (await guest.get(done.url, "/shopping")).status_code == 404
    assert (await guest.get(done.url, "/")).status_code == 404
    assert done.checks[0]["url"].endswith("/shop")
