"""Which images a preview may build upon, from what the engine's storage says of them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from provider.platforms.container.base_images import Owner, check, check_names
from provider.platforms.dockerfile import NotAllowed

OWNER = Owner("preview.x1agent.io/slug", "me")


def stored(folder: Path, text: str, *, digest_of: str | None = None) -> str:
    """Put a configuration where the engine's storage has it; returns the image's id."""
    image_id = hashlib.sha256((digest_of or text).encode()).hexdigest()
    (folder / image_id).mkdir()
    name = "=" + base64.b64encode(f"sha256:{image_id}".encode()).decode()
    (folder / image_id / name).write_text(text)
    return image_id


def configuration(**config: object) -> str:
    return json.dumps({"config": config, "rootfs": {}})


@pytest.mark.parametrize(
    "text",
    [configuration(), configuration(OnBuild=None, Labels={OWNER.label: "me"}), configuration(OnBuild=["RUN true"])],
)
def test_allowed(tmp_path: Path, text: str) -> None:
    check("img", stored(tmp_path, text), tmp_path, OWNER)


@pytest.mark.parametrize(
    "text",
    [
        configuration(OnBuild=["RUN --mount=type=bind x"]),
        configuration(onbuild=["RUN --mount=type=bind x"]),
        configuration(OnBuild="RUN --mount=type=bind x"),
        '{"rootfs": {}, "config": {"OnBuild": ["RUN --mount=x y"]}, "config": {}}',
        configuration(Labels={OWNER.label: "you"}),
        "{}",
    ],
)
def test_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotAllowed):
        check("img", stored(tmp_path, text), tmp_path, OWNER)


def test_what_is_not_there_or_not_what_it_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="no configuration"):
        check("img", "absent", tmp_path, OWNER)
    with pytest.raises(NotAllowed, match="no configuration"):
        check("img", stored(tmp_path, configuration(), digest_of="another"), tmp_path, OWNER)


def test_names_of_other_previews() -> None:
    check_names(["r:5/previews/me:1", "r:5/base:1", "node"], "r:5", "me")
    for image in ("r:5/previews/you:1", "r:5/previews/you@sha256:0", "r:5/previews/me/x", "r:5/previews/you"):
        with pytest.raises(NotAllowed):
            check_names([image], "r:5", "me")
