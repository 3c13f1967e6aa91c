"""The sample's base image, made on the spot: Debian's static busybox and a handful of files.

Nothing is pulled from outside, so the demo works without a network. It goes straight to the registry by
its HTTP API: one layer, one configuration, one manifest, in a few milliseconds.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

import httpx

from provider.demo.processes import SEARCH_PATH, StackError, clean_environment, run

REPOSITORY, TAG = "base/busybox", "1"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
EPOCH = "1970-01-01T00:00:00Z"
FOLDERS = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777, "www": 0o755}
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


async def push_base_image(registry: str, home: Path) -> str:
    """Make the base image and push it; its reference, `<registry>/base/busybox:1`.

    Args:
        registry: host:port of a registry without TLS.
        home: a folder for what is started to make it.

    Raises:
        StackError: busybox is missing or not static, or the registry refused.
    """
    layer = await _layer(home)
    compressed = gzip.compress(layer, compresslevel=1, mtime=0)
    config = _json(_config(layer))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, compressed)],
        }
    )
    base = f"http://{registry}/v2/{REPOSITORY}"
    # trust_env: a proxy of the user's is not asked for our own loopback registry.
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        try:
            for blob in (config, compressed):
                await _push_blob(client, base, blob)
            headers = {"Content-Type": MANIFEST_TYPE}
            (await client.put(f"{base}/manifests/{TAG}", content=manifest, headers=headers)).raise_for_status()
        except httpx.HTTPError as error:
            raise StackError(f"The registry at {registry} did not take the base image: {error}") from error
    return f"{registry}/{REPOSITORY}:{TAG}"


async def _push_blob(client: httpx.AsyncClient, base: str, blob: bytes) -> None:
    begun = (await client.post(f"{base}/blobs/uploads/")).raise_for_status()
    place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": _digest(blob)})
    (await client.put(place, content=blob)).raise_for_status()


async def _layer(home: Path) -> bytes:
    busybox = shutil.which("busybox", path=SEARCH_PATH)
    if busybox is None:
        raise StackError("Not installed: busybox (package busybox-static).")
    status, applets = await run(busybox, "--list", env=clean_environment(home), timeout=10)
    program = _program(Path(busybox))
    if status != 0 or b".interp\0" in program:  # the section that names a dynamic loader
        raise StackError(f"{busybox} is not static: install the package busybox-static.")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in FOLDERS.items():
            _add(tar, name, mode, kind=tarfile.DIRTYPE)
        for name, text in FILES.items():
            _add(tar, name, 0o644, text.encode())
        _add(tar, "bin/busybox", 0o755, program)
        for applet in applets.split():
            if applet != "busybox":
                _add(tar, f"bin/{applet}", 0o777, kind=tarfile.SYMTYPE, link="busybox")
    return buffer.getvalue()


def _program(path: Path) -> bytes:
    return path.read_bytes()


def _add(
    tar: tarfile.TarFile, name: str, mode: int, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    entry = tarfile.TarInfo(name)  # all else zero: the same busybox makes the same layer
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), link
    tar.addfile(entry, io.BytesIO(content))


def _config(layer: bytes) -> dict[str, Any]:
    machine = platform.machine()
    return {
        "architecture": MACHINES.get(machine, machine),
        "os": "linux",
        "created": EPOCH,
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        # One entry a layer: buildah refuses to commit on a base without.
        "history": [{"created": EPOCH, "created_by": "busybox-static"}],
    }


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
