"""Whether an image may be built upon. Only the standard library: the builder uses it.

Neither of the engine's APIs tells the `ONBUILD` triggers of an image that it holds, so its configuration is read
from the engine's storage, where it stands as it came; its digest proves that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from provider.platforms.dockerfile import NotAllowed, check_triggers

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Owner(NamedTuple):
    """Whose build it is: the preview, and the label by which its images are known."""

    label: str
    slug: str


def check_names(images: Iterable[str], registry: str, slug: str) -> None:
    """Refuse other previews' images in our own registry, before anybody pulls them.

    Raises:
        NotAllowed: for the first one.
    """
    previews = f"{registry}/previews/"
    for image in images:
        repository = re.split("[:@]", image.removeprefix(previews))[0]
        if image.startswith(previews) and repository != slug:
            raise _another_previews(image)


def check(image: str, image_id: str, folder: Path, owner: Owner) -> None:
    """Check an image that the engine holds, under whatever name it was asked for.

    Args:
        image: its name after `FROM`.
        image_id: what the engine calls it.
        folder: where the engine's storage keeps what it knows of images.
        owner: who wants to build upon it.

    Raises:
        NotAllowed: for another preview's image, for triggers that are not allowed, and for what cannot be told.
    """
    configurations = [text for text in _blobs(folder / image_id) if "rootfs" in text]
    try:
        told = [_told(text, owner.label) for text in configurations]
    except (ValueError, RecursionError):
        told = []
    if not told:
        raise NotAllowed(
            "BaseImageUnknown",
            f"The engine has no configuration of the base image {image!r}.",
            "Use an image that `podman pull` gets from a registry.",
        )
    for owners, triggers in told:
        if any(one != owner.slug for one in owners):
            raise _another_previews(image)
        check_triggers(image, triggers)


def _blobs(folder: Path) -> list[str]:
    """What the storage keeps under a digest that it has: manifests and configurations."""
    found = []
    for path in folder.glob("=*") if folder.is_dir() else []:
        digest = base64.b64decode(path.name[1:] + "==").decode(errors="replace")
        content = path.read_bytes()
        if _DIGEST.fullmatch(digest) and digest == f"sha256:{hashlib.sha256(content).hexdigest()}":
            found.append(content.decode(errors="replace"))
    return found


def _told(configuration: str, label: str) -> tuple[list[object], list[object]]:
    """(values of the label, triggers), wherever they stand: the engine's parser ignores case and takes the last."""
    owners: list[object] = []
    triggers: list[object] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        for name, value in pairs:
            if name == label:
                owners.append(value)
            if name.casefold() == "onbuild" and value:
                triggers.extend(value if isinstance(value, list) else [value])

    json.loads(configuration, object_pairs_hook=look)
    return owners, triggers


def _another_previews(image: str) -> NotAllowed:
    return NotAllowed(
        "BaseImageNotAllowed",
        f"The base image {image!r} belongs to another preview.",
        "Publish the image that both start from in a registry, and name it after FROM.",
    )
