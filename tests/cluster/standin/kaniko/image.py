"""The image that comes out: a real one, whose only layer says what it was built from."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
EPOCH = "1970-01-01T00:00:00Z"
CONTENT_PATH = "built.json"


@dataclass(frozen=True)
class Image:
    """A manifest and its blobs."""

    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """What the registry knows it by."""
        return digest_of(self.manifest)


def make(content: Mapping[str, object], *, labels: Mapping[str, str], created: str) -> Image:
    """An image whose file `/built.json` holds `content`."""
    layer = _layer(_json(content))
    packed = gzip.compress(layer, mtime=0)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": created,
            "config": {"Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
            "history": [{"created": created, "author": "kaniko", "created_by": "COPY . /"}],
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [_descriptor(LAYER, packed)],
    }
    return Image(_json(manifest), (config, packed))


def digest_of(blob: bytes) -> str:
    """`sha256:…`."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _layer(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(CONTENT_PATH)
        entry.size, entry.mode = len(content), 0o644
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest_of(blob), "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
