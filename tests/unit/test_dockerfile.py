"""What a Dockerfile may say, and how it is written anew for the engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.platforms.dockerfile import NotAllowed, check_triggers, read


def reason(text: str, args: dict[str, str] | None = None) -> str:
    with pytest.raises(NotAllowed) as caught:
        read(text, args or {})
    assert caught.value.hint
    return caught.value.reason


def test_an_instruction_a_line_on_the_line_where_it_began() -> None:
    text = "# first\n\nFROM img\\\n:1  AS base\r\nRUN one && \\\n  # why\n\n  two\n  \nCOPY --from=base /a /b"
    assert read(text, {}).text == "\n\nFROM img:1 AS base\n\nRUN one &&   two\n\n\n\n\nCOPY --from=base /a /b\n"


@pytest.mark.parametrize(
    ("text", "args", "images"),
    [
        (
            "FROM img AS one\nFROM one\nCOPY --from=one /x /\nCOPY --from=0 /x /\nCOPY --from=b:2 /x /",
            {},
            ("img", "b:2"),
        ),
        ("FROM scratch", {}, ()),
        ("ARG V=3\nARG I=node:$V\nFROM ${I}", {}, ("node:3",)),
        ("ARG V=3\nFROM node:${V:-4}${V:+-slim}", {"V": "5"}, ("node:5-slim",)),
        ("FROM --platform=$BUILDPLATFORM 127.0.0.1:5000/a/b@sha256:" + 64 * "0", {}, None),
        ("ARG V=1\nFROM img:$V\nARG V=2\nFROM other:$V", {}, ("img:1", "other:1")),
        ("FROM img\nRUN --network=none true\nCOPY --chown=$U:$U --link . .", {}, ("img",)),
    ],
)
def test_images_that_are_needed(text: str, args: dict[str, str], images: tuple[str, ...] | None) -> None:
    found = read(text, args).images
    assert found == (images if images is not None else ("127.0.0.1:5000/a/b@sha256:" + 64 * "0",))


def test_the_name_that_was_checked_is_the_name_that_is_built() -> None:
    assert read("ARG I=evil\nFROM $I AS x", {"I": "good:1"}).text == "ARG I=evil\nFROM good:1 AS x\n"


@pytest.mark.parametrize(
    "line",
    [
        "RUN --mount=type=bind,source=x,target=/y true",
        "run\t--mount=type=cache,id=../../x,target=/y true",
        "RUN --mo\\\nunt=type=bind true",
        "RUN --mo\\\n# comment\n\nunt=type=bind true",
        "RUN --mo\\ \t\nunt=type=bind true",
        'RUN --mo"un"t=type=bind true',
        "RUN --m\\ount=type=bind true",
        "RUN --$X=type=bind true",
        "RUN --network=none --mount=type=bind true",
        "RUN --security=insecure true",
        "ONBUILD RUN --mount=type=bind true",
        "onbuild\vrun\f--mo'unt'=type=bind true",
    ],
)
def test_mounts_are_refused(line: str) -> None:
    assert reason(f"FROM img\n{line}\n") == "MountNotAllowed"


@pytest.mark.parametrize(
    "text",
    [
        "# escape=`\nFROM img",
        " #  ESCAPE = ` \nFROM img",
        "FROM img\nONBU\u0130LD RUN --mount=type=bind true",
        "FROM img\nONBUILD ONBUILD RUN true",
        "FROM img\nONBUILD FROM other",
        "FROM img b c d",
        "FROM --x img",
        "FROM img\nRUN " + 70_000 * "x",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    assert reason(text) == "DockerfileInvalid"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("dir:/etc", "BaseImageNotAllowed"),
        ("${X:+dir}:/etc", "BaseImageNotAllowed"),
        ("oci-archive:x", "BaseImageNotAllowed"),
        ("docker://127.0.0.1/x", "BaseImageNotAllowed"),
        ("deadbeef", "BaseImageNotAllowed"),
        ("sha256:deadbeef", "BaseImageNotAllowed"),
        ("$UNKNOWN", "BaseImageUnknown"),
        ("${X#a}", "BaseImageUnknown"),
        ("'a'", "BaseImageUnknown"),
        ("[::1]:5000/a", "BaseImageUnknown"),
    ],
)
def test_images_that_are_none_of_a_registry(image: str, expected: str) -> None:
    assert reason(f"ARG X=1\nFROM {image}") == expected
    assert reason(f"FROM img\nCOPY --from={image} / /") in {expected, "BaseImageUnknown"}


@pytest.mark.parametrize("source", ["0", "me", "1", "dead"])
def test_the_own_and_later_stages_are_no_stages_yet(source: str) -> None:
    try:
        images = read(f"FROM img AS me\nCOPY --from={source} / /\nFROM other AS dead", {}).images
    except NotAllowed as refused:
        assert refused.reason == "BaseImageNotAllowed"  # noqa: PT017 - either is right
    else:
        assert source in images


@pytest.mark.parametrize(
    "trigger", ["RUN --mount=type=bind x", "RUN \\", "#escape=`", "RUN x\nRUN y", "COPY --from=b / /", "FROM b"]
)
def test_triggers_of_base_images(trigger: str) -> None:
    check_triggers("img", ["RUN npm ci --omit=dev", "COPY --chown=1:1 . /app"])
    with pytest.raises(NotAllowed):
        check_triggers("img", ["RUN true", trigger])


@given(st.text("RUNfromONBILD# \t\\\n\r\v\f\x1c\u00a0-=mount'\"$a", max_size=60))
def test_no_line_goes_on_and_none_mounts_whatever_is_written(text: str) -> None:
    """The invariant that all rests on: each line of what is written stands for itself, and was checked."""
    try:
        written = read(text, {}).text
    except NotAllowed:
        return
    for line in written.split("\n"):
        assert not line.rstrip().endswith("\\")
        assert not line.lstrip().startswith("#")
        word, *rest = line.upper().split() or [""]
        assert word not in {"RUN", "ONBUILD"} or not rest or not rest[0].startswith("--M")
