"""What a hostile Dockerfile must not get at: the host's files, other builds, more than their share."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from provider.demo.git_server import Content, File
from provider.demo.world import World
from provider.platforms.container import build_network, build_process, build_walls, machine
from provider.platforms.container.spare import Spare
from tests.e2e.apps import app_files
from tests.e2e.conftest import SMALL
from tests.e2e.helpers import PAUSE, deployed, podman, refused, refused_deploy, seconds_since, watched


def lines(world: World, *more: str) -> str:
    """A Dockerfile of the base image and these lines."""
    return "\n".join(
        [f"FROM {world.base_image}", *more, "COPY www /www", 'CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]', ""]
    )


def app_of(world: World, name: str, *more: str, **files: Content) -> dict[str, Content]:
    return {**app_files(name, world.base_image), "Dockerfile": lines(world, *more), **files}


@pytest.mark.parametrize(
    "line",
    [
        "RUN --mount=type=bind,source=rootlink,target=/host ls /host",
        "RUN --mo\\\nunt=type=bind,source=rootlink,target=/host ls /host",
        'RUN --mo"un"t=type=bind,source=rootlink,target=/host ls /host',
        "RUN --network=none --mount=type=cache,id=../../../../tmp/x,target=/host ls /host",
        "ONBUILD RUN --mount=type=bind,source=rootlink,target=/host ls /host",
    ],
)
async def test_mounts_are_refused_before_anything_runs(world: World, line: str) -> None:
    files = app_of(world, "mounts", line, rootlink=File("/", "120000"))
    failure = await refused_deploy(world, "mounts", files)
    assert (failure.code, failure.reason, failure.log_tail) == ("kaniko_build_failed", "MountNotAllowed", ())
    assert failure.hint
    assert "COPY" in failure.hint


async def test_the_preprocessor_includes_no_file_of_the_host(world: World, tmp_path: Path) -> None:
    """Buildah runs cpp on the host over a Dockerfile named `*.in`."""
    secret = tmp_path / "secret"
    secret.write_text('LABEL stolen="the secret"\n')
    files = app_of(world, "included", f'#include "{secret}"')
    files["Dockerfile.in"] = files.pop("Dockerfile")
    files[".x1agent/preview.yaml"] = str(files[".x1agent/preview.yaml"]).replace("./Dockerfile", "./Dockerfile.in")
    done = await deployed(world, "included", files=files)
    assert "stolen" not in await podman(world.stack, "image", "inspect", done.image)


@pytest.mark.parametrize("missing", [True, False], ids=["pulled", "present"])
async def test_a_base_image_brings_no_mounts(world: World, missing: bool) -> None:
    base = f"{world.stack.registry.address}/base/trigger:{int(missing)}"
    trigger = "RUN --mount=type=bind,from=evil,source=/,target=/host,rw ls /host"
    made = await podman(world.stack, "create", "--tls-verify=false", world.base_image, "true")
    await podman(world.stack, "commit", "--format=docker", f"--change=ONBUILD {trigger}", made, base)
    await podman(world.stack, "rm", made)
    if missing:
        await podman(world.stack, "push", "--tls-verify=false", base)
        await podman(world.stack, "rmi", base)
    files = app_files("triggers", world.base_image) | {"Dockerfile": f"FROM {base}\n"}
    failure = await refused_deploy(world, "triggers", files)
    assert (failure.code, failure.reason) == ("kaniko_build_failed", "MountNotAllowed")


async def test_other_previews_images_are_refused(world: World) -> None:
    victim = await deployed(world, "victim", secret_values={})
    identity = await podman(world.stack, "image", "inspect", "--format={{.Id}}", victim.image)
    short = victim.image.partition("/")[2]
    for image, reason in [
        (victim.image, "BaseImageNotAllowed"),
        (short, "BaseImageNotAllowed"),
        (identity[:12], "BaseImageNotAllowed"),
        (f"${{X:+dir}}:{identity}", "BaseImageNotAllowed"),
        ("${Y:-dir}:/etc", "BaseImageNotAllowed"),
        ("${UNKNOWN}", "BaseImageUnknown"),
    ]:
        files = app_files("thief", world.base_image) | {"Dockerfile": f"ARG X=1\nFROM {image}\n"}
        failure = await refused_deploy(world, "thief", files)
        assert (failure.code, failure.reason) == ("kaniko_build_failed", reason), image
        files["Dockerfile"] = lines(world, f"COPY --from={image} / /stolen")
        failure = await refused_deploy(world, "thief", files)
        assert failure.reason in {"BaseImageNotAllowed", "BaseImageUnknown"}, image


async def test_own_images_are_fine(world: World) -> None:
    first = await deployed(world, "own-base")
    files = app_files("own-base", first.image, body="second\n")
    assert (await deployed(world, "own-base", files=files)).built


async def test_processes_are_bounded_in_every_step(world: World) -> None:
    bomb = "i=0; while [ $i -lt 1200 ]; do sleep 3 & i=$((i+1)); done; wait"
    failure = await refused_deploy(world, "bomb", app_of(world, "bomb", "RUN true", f"RUN {bomb}"))
    assert (failure.code, failure.reason) == ("kaniko_build_failed", "RunFailed")
    assert any("fork" in line for line in failure.log_tail)


async def test_endless_output_fills_no_disk_and_its_end_is_seen(world: World) -> None:
    """While it is said, the provider answers others; what the build failed of still ends the log."""
    loud, kept = "yes | head -c 10000000; echo the end >&2; exit 3", int(SMALL["BUILD_LOG_BYTES"])
    sha = await world.commit("acme/loud", app_of(world, "loud", f"RUN {loud}"))
    watch = watched(world, "loud", sha)
    await watch.phase("build")
    slowest = 0.0
    while watch.task is not None and not watch.task.done():
        began = time.monotonic()
        await world.client.list()
        slowest = max(slowest, seconds_since(began))
        logs = [path.stat().st_size for path in (world.stack.folder / "state" / "builds").glob("*/log")]
        assert max(logs, default=0) < 1.1 * kept
        await asyncio.sleep(PAUSE)
    failure = await refused(watch.result())
    assert (failure.code, failure.reason) == ("kaniko_build_failed", "RunFailed")
    assert any("the end" in line for line in failure.log_tail)
    assert slowest < 3.0


def test_the_engine_of_a_build_sees_neither_secrets_nor_other_builds(tmp_path: Path) -> None:
    """The second wall, should the engine be led out of the tree after all."""
    for name in ("secrets/bundles", "git/acme", "builds/mine/tree", "builds/another"):
        (tmp_path / name).mkdir(parents=True)
    mine, resolver = tmp_path / "builds" / "mine", tmp_path / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.1\n")
    look = f"pwd; cd {tmp_path}; ls secrets git builds builds/mine; touch builds/mine/image-id"
    look += "; cat /etc/resolv.conf; echo $TMPDIR"
    walls = partial(build_walls.enter, Path("/proc/self/ns/net"), mine, str(resolver))
    seen = subprocess.run(["sh", "-c", look], check=True, capture_output=True, text=True, preexec_fn=walls)
    expected = [
        "builds:",
        "mine",
        "",
        "builds/mine:",
        "tmp",
        "tree",
        "",
        "git:",
        "",
        "secrets:",
        "nameserver 192.0.2.1",
    ]
    assert seen.stdout.splitlines() == [str(mine), *expected, str(mine / "tmp")]
    assert (mine / "image-id").exists()
    assert (tmp_path / "secrets" / "bundles").exists()
    assert Path("/etc/resolv.conf").read_text() != resolver.read_text()


def test_networks_of_killed_builders_are_swept() -> None:
    abandoned = build_network.Network(build_network.POOL_FOLDER, machine.netavark())
    in_use = build_network.Network(build_network.POOL_FOLDER, machine.netavark())
    abandoned.create()
    in_use.create()
    try:
        abandoned.let_go()
        build_network.sweep(machine.netavark())
        assert (abandoned.namespace.exists(), in_use.namespace.exists()) == (False, True)
    finally:
        in_use.remove()
        in_use.let_go()


async def test_a_builder_that_was_taken_for_nothing_leaves_nothing(tmp_path: Path) -> None:
    """Its Dockerfile was refused, say, or whoever took it was killed."""
    folder = tmp_path / "builds" / "mine"
    folder.mkdir(parents=True)
    told = {"netavark": machine.netavark(), "deadline": time.time() + 60, "pids": 100, "log_bytes": 1 << 20}
    (folder / "plan.json").write_text(json.dumps(told))
    spare = Spare({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    spare.renew()
    try:
        async with asyncio.timeout(20):
            while (taken := spare.take(folder)) is None:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(PAUSE)
            assert await taken._ready
            assert build_process.is_alive(folder), "it has the folder already"
            files = Path("/proc", (folder / "alive").read_text(), "fd").iterdir()
            [lock] = [path for one in files if (path := one.resolve()).parent == build_network.POOL_FOLDER]
            network = build_network.POOL_FOLDER / f"netns-{lock.stem}"
            assert network.exists()
            await taken.let_go()
            await build_process.ended(folder)
    finally:
        await spare.close()
    assert (build_process.is_alive(folder), build_process.result(folder)) == (False, None)
    assert not list(Path("/sys/fs/cgroup").glob(f"**/x1-build-{folder.name}"))
    assert not network.exists()
