"""The provider's own image: built by the engine on a base made on the spot, started as the manifests start it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provider.demo.processes import Server, clean_environment, run
from provider.demo.stack import Stack
from tests.cluster.kustomize import built, named
from tests.cluster.places import place
from tests.cluster.world import cluster_world
from tests.e2e.debian import base_archive
from tests.e2e.helpers import podman

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/x1-preview-provider:test"
BASE = "localhost/debian-python:test"
PATIENCE = 240.0
TRACER = """
from provider.settings import Settings
from provider.tracing import open_tracer
print(type(open_tracer(Settings(), "one")).__name__)
"""


@pytest.mark.timeout(420)
async def test_the_image_serves_without_root_and_writes_nowhere_else(stack: Stack, tmp_path: Path) -> None:
    await _build(stack, tmp_path, "otel")
    shown = json.loads(await podman(stack, "image", "inspect", IMAGE))[0]["Config"]
    assert (shown["User"], shown["Entrypoint"], shown["Cmd"]) == ("10001:10001", ["preview"], ["serve"])

    def container(folder: Path, settings: Mapping[str, str]) -> Server:
        return _container(stack, folder, settings)

    async with place(tmp_path) as standin, cluster_world(standin, tmp_path, process=container) as world:
        done = await world.deploy("from-the-image")
        assert await world.guest.text(done.url)
        processes = await podman(stack, "top", "x1-preview-provider", "user", "args")
        users = [line.split(maxsplit=1) for line in processes.splitlines()[1:]]
        assert [user for user, _ in users] == ["10001"], f"one process, and not root's: {processes}"
    here = ("--rm", "--network=none", "--env=OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "--entrypoint=python")
    runtime = f"--runtime={stack.limits.runtime}"
    assert (await podman(stack, runtime, "run", *here, IMAGE, "-c", TRACER)).split()[-1] == "OtelTracer"


def test_what_sends_spans_is_all_that_the_two_images_differ_in() -> None:
    """So the larger one is built here, and what is said of it holds for the other."""
    pinned = re.compile(r"^[a-z0-9._-]+==[^ ]+", re.MULTILINE)
    runtime, otel = (
        set(pinned.findall((ROOT / f"requirements-{kind}.lock").read_text())) for kind in ("runtime", "otel")
    )
    assert runtime < otel
    known = ("opentelemetry-", "protobuf==", "googleapis-common-protos==")
    assert [one for one in otel - runtime if not one.startswith(known)] == []


async def _build(stack: Stack, folder: Path, kind: str) -> None:
    """Build it without a network: pip takes what was downloaded for it here."""
    wheels = folder / "wheels"
    await _download(wheels, "--require-hashes", f"--requirement={ROOT / f'requirements-{kind}.lock'}")
    await _download(wheels, "setuptools>=68")  # nkeys is published as source only
    archive = base_archive(folder / "base.tar")
    await podman(stack, "import", str(archive), BASE)
    status, output = await run(
        *("podman", "build", f"--runtime={stack.limits.runtime}", "--network=none", "--pull=never", "--layers=false"),
        *(f"--build-arg=BASE={BASE}", "--build-arg=PIP_NO_INDEX=1", "--build-arg=PIP_FIND_LINKS=/wheels"),
        *(f"--build-arg=WITH={kind}", f"--volume={wheels}:/wheels:ro", f"--tag={IMAGE}", str(ROOT)),
        env=_engine(stack),
        timeout=PATIENCE,
    )
    assert status == 0, output


async def _download(target: Path, *what: str) -> None:
    command = ("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", f"--dest={target}")
    status, output = await run(sys.executable, *command, *what, env=os.environ, timeout=PATIENCE)
    assert status == 0, output


def _container(stack: Stack, folder: Path, settings: Mapping[str, str]) -> Server:
    """A container with what the manifests give to the pod: user, capabilities, root file system, volumes."""
    pod = named(built("base"), "Deployment", "x1-preview-provider")["spec"]["template"]["spec"]
    (spec,) = pod["containers"]
    Path(settings["KUBECONFIG"]).chmod(0o644)  # not root's, as a Secret's volume is not
    inside = {**settings, "STATE_DIR": _mount(spec, "state")}
    variables = [f"--env={key}={value}" for key, value in inside.items() if key != "PYTHONPATH"]
    files = [f"--volume={settings[key]}:{settings[key]}:ro" for key in ("KUBECONFIG", "PUBLIC_CA_FILE")]
    return Server(
        name="provider",
        argv=(
            *("podman", "run", "--rm", "--name=x1-preview-provider", "--network=host", "--read-only"),
            *("--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"),
            *(f"--user={pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}", *files),
            *(f"--tmpfs={_mount(spec, name)}:mode=1777" for name in ("state", "tmp")),
            *(*variables, IMAGE, *spec["args"]),
        ),
        ready=r"provider\.ready",
        folder=folder,
        env=_engine(stack),
        address="",
        start_timeout=60.0,
        stop_timeout=15.0,
    )


def _mount(spec: Mapping[str, Any], name: str) -> str:
    return str(next(mount["mountPath"] for mount in spec["volumeMounts"] if mount["name"] == name))


def _engine(stack: Stack) -> dict[str, str]:
    environment = {**clean_environment(stack.folder), **stack.environment()}
    environment.pop("CONTAINER_HOST", None)
    return environment
