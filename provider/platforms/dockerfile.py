"""What a Dockerfile is allowed to say, and the images that it starts from.

A Dockerfile is hostile, and the engine reads some of it on the host: Podman 4.3 follows links in the sources of
`RUN --mount` out of the tree and out of images (CVE-2024-1753), and takes any local image after `FROM`. So the
engine never sees the commit's own text but the one that is written here, an instruction a line and without
comments: whatever parser reads it, it finds the lines that were checked. What cannot be told is refused.

Kaniko clones by itself and reads the commit's own text; what that says of images is told by `images_as_is`.

Only the standard library, and what needs no more: the builder reads with this, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from provider.diagnose.steps import instructions

MAX_INSTRUCTION = 60_000
_END = re.compile(r"[\\\s]+\Z")
_ESCAPE = re.compile(r"#\s*escape\s*=", re.IGNORECASE)
_VARIABLE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::(?P<how>[-+])(?P<word>[^${}]*))?\}|(?P<plain>[A-Za-z_]\w*))", re.ASCII
)
_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?"
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(rf"{_HOST}{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
_TRANSPORT = re.compile(
    r"(atomic|containers-storage|dir|docker|docker-archive|docker-daemon|oci|oci-archive|ostree|sif|tarball):",
    re.IGNORECASE,
)
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]+")
_STAGE = re.compile(r"[a-z][a-z0-9_.-]*", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,4}")
_RUN_FLAG = re.compile(r"--network=(none|default|host)")
_NOT_PLAIN = re.compile(r"[\"'\\]")
_PLATFORM_ARGS = {f"{side}{part}" for side in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")}
"""Variables that a builder sets by itself where they are declared without a default."""
_READ_OTHERWISE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|\\\\[ \t\r]*$", re.MULTILINE)
"""What other parsers make other lines of: control characters, and two backslashes at a line's end."""


class NotAllowed(Exception):
    """A Dockerfile, or what an image adds to it, that is not built here.

    Args:
        reason: the CamelCase cause.
        message: one sentence that quotes what was found.
        hint: what to write instead.
    """

    def __init__(self, reason: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


class Dockerfile(NamedTuple):
    """A Dockerfile as the engine may see it, and the images that it needs, without stages and `scratch`."""

    text: str
    images: tuple[str, ...]


def read(text: str, args: dict[str, str]) -> Dockerfile:
    """Check a Dockerfile and write it anew: an instruction a line, on the line where it began.

    Args:
        text: the commit's file.
        args: build arguments that were given; they win over the defaults of `ARG`.

    Raises:
        NotAllowed: when it has mounts, or an image that is not allowed or cannot be told from the text.
    """
    reader = _Reader(args)
    lines: list[str] = []
    _check_escape(text)
    for number, instruction in instructions(text):
        line = _whole(instruction)
        if not line:
            continue
        lines += [""] * (number - len(lines))
        lines.append(reader.checked(line))
    return Dockerfile("\n".join(lines) + "\n", tuple(reader.images))


def images_as_is(text: str, args: dict[str, str]) -> tuple[str, ...]:
    """The images that a Dockerfile needs, whichever parser reads it; arguments and errors as of `read`.

    Raises:
        NotAllowed: also where parsers may not agree on where an instruction ends.
    """
    if _READ_OTHERWISE.search(text) or any(_is_heredoc(_whole(line)) for _, line in instructions(text)):
        raise NotAllowed(
            "DockerfileInvalid",
            "The Dockerfile has a here-document, a control character, or a line that ends in two backslashes.",
            "Write them otherwise: which base images it needs must be plain to see.",
        )
    return read(text, args).images


def _is_heredoc(line: str) -> bool:
    word, rest = _split(line)
    return word.upper() in {"RUN", "COPY", "ADD"} and "<<" in rest


def check_triggers(image: str, triggers: Iterable[object]) -> None:
    """Check an image's `ONBUILD` triggers, which the engine runs as instructions after `FROM`.

    Raises:
        NotAllowed: when one has a mount or another image, or could be read as more than one instruction.
    """
    for trigger in triggers:
        line = str(trigger).strip()
        if "\n" in line or line.endswith("\\") or line.startswith("#"):
            raise NotAllowed(
                "BaseImageNotAllowed",
                f"The base image {image} has an ONBUILD instruction of more than one line.",
                "Use another base image.",
            )
        _check_trigger(line)


class _Reader:
    """Goes through the instructions in order: stages and `ARG`s are known from where they stand on."""

    def __init__(self, args: dict[str, str]) -> None:
        self._args = args
        self._variables: dict[str, str] = {}
        self._unclear: set[str] = set()  # variables whose value depends on who reads them
        self._earlier: list[str] = []  # names of finished stages, "" where there is none
        self._stage: str | None = None
        self.images: dict[str, None] = {}

    def checked(self, line: str) -> str:
        """The instruction, with its image's name as it is meant."""
        word, rest = _split(line)
        if not (word.isascii() and word.isalpha()):
            raise _unreadable(line)
        match word.upper():
            case "ARG":
                self._declare(rest)
            case "FROM":
                return self._from(line, rest)
            case "RUN":
                _check_run(rest)
            case "COPY" | "ADD":
                self._check_copy(rest)
            case "ONBUILD":
                _check_trigger(rest)
        return line

    def _declare(self, rest: str) -> None:
        if self._stage is None:  # only those before the first FROM count after FROM
            name, given, default = rest.partition("=")
            name, value = name.strip(), default.strip().strip("\"'")
            value = self._args.get(name, _expanded(value, self._variables) or "")
            by_itself = name in _PLATFORM_ARGS and not given and name not in self._args
            if by_itself or self._variables.get(name, value) != value:
                self._unclear.add(name)
            self._variables[name] = value

    def _from(self, line: str, rest: str) -> str:
        words = rest.split()
        flags = [word for word in words if word.startswith("--")]
        words = words[len(flags) :]
        named = len(words) == 3 and words[1].upper() == "AS" and _STAGE.fullmatch(words[2]) is not None
        if not (named or len(words) == 1) or any(not _plain_flag(flag, "--platform=") for flag in flags):
            raise _unreadable(line)
        if self._stage is not None:
            self._earlier.append(self._stage)
        image = _expanded(words[0], self._variables, self._unclear)
        if image is None:
            raise _unknown(words[0])
        if image not in self._earlier and image != "scratch":
            self._need(image)
        self._stage = words[2] if named else ""
        return " ".join(["FROM", *flags, image, *words[1:]])

    def _check_copy(self, rest: str) -> None:
        for flag in _flags(rest):
            name, _, source = flag.partition("=")
            if _NOT_PLAIN.search(flag) or "$" in name or (name == "--from" and "$" in source):
                raise _unknown(flag)
            numbered = _NUMBER.fullmatch(source) is not None and int(source) < len(self._earlier)
            if name == "--from" and not (numbered or source in self._earlier):
                self._need(source)

    def _need(self, image: str) -> None:
        if _TRANSPORT.match(image) or _IMAGE_ID.fullmatch(image):
            raise NotAllowed(
                "BaseImageNotAllowed",
                f"The Dockerfile's base image {image!r} is not the name of an image in a registry.",
                "Use an image of a registry after FROM and --from=, with its tag or digest.",
            )
        if not _IMAGE.fullmatch(image):
            raise _unknown(image)
        self.images[image] = None


def _check_escape(text: str) -> None:
    if any(_ESCAPE.match(line.lstrip()) for line in text.removeprefix("\ufeff").split("\n")):
        raise NotAllowed(
            "DockerfileInvalid",
            "The Dockerfile sets its escape character.",
            "Remove the line `# escape=…` and end continued lines with a backslash.",
        )


def _whole(joined: str) -> str:
    """An instruction that cannot go on in the next line, and is no longer than the engine's parser takes."""
    line = _END.sub("", joined.replace("\r", " ")).strip()
    if len(line.encode(errors="replace")) > MAX_INSTRUCTION:
        raise _unreadable(line)
    return line


def _split(line: str) -> tuple[str, str]:
    word, rest, *_ = [*line.split(None, 1), "", ""]
    return word, rest


def _flags(rest: str) -> list[str]:
    """The words before the first one that is none of the instruction's own options."""
    flags = []
    for word in rest.split():
        if not word.startswith("--"):
            break
        flags.append(word)
    return flags


def _plain_flag(flag: str, prefix: str) -> bool:
    return flag.startswith(prefix) and _NOT_PLAIN.search(flag) is None


def _check_run(rest: str) -> None:
    """No options but harmless ones: quotes, backslashes and variables can spell `--mount` in many ways."""
    if "--mount" in rest or any(not _RUN_FLAG.fullmatch(flag) for flag in _flags(rest)):
        raise NotAllowed(
            "MountNotAllowed",
            f"RUN {rest[:60]!r} has a mount or an option that is not built here.",
            "Remove `--mount=…` and its like after RUN: use COPY for files; RUN steps are cached anyway.",
        )


def _check_trigger(line: str) -> None:
    """An instruction that the engine runs in a later build: nothing that reaches beyond that build."""
    word, rest = _split(line)
    if not (word.isascii() and word.isalpha()) or word.upper() in {"FROM", "ONBUILD"}:
        raise _unreadable(line)
    if word.upper() == "RUN":
        _check_run(rest)
    if word.upper() in {"COPY", "ADD"} and any(
        _NOT_PLAIN.search(flag) or "$" in flag.partition("=")[0] or flag.startswith("--from") for flag in _flags(rest)
    ):
        raise NotAllowed(
            "BaseImageNotAllowed",
            f"ONBUILD {line[:60]!r} takes files from another image.",
            "Write COPY --from=… without ONBUILD.",
        )


def _expanded(word: str, variables: dict[str, str], unclear: Collection[str] = ()) -> str | None:
    """The word with its variables' values; None when one is not known."""
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        name = match["braced"] or match["plain"]
        unknown = unknown or name in unclear or (match["how"] is None and name not in variables)
        if match["how"] == "+":
            return match["word"] if variables.get(name) else ""
        return variables.get(name) or match["word"] or ""

    expanded = _VARIABLE.sub(value, word)
    return None if unknown or "$" in expanded else expanded


def _unknown(image: str) -> NotAllowed:
    return NotAllowed(
        "BaseImageUnknown",
        f"Which image {image[:100]!r} means cannot be told from the Dockerfile.",
        "Write the image's name out, or use an ARG with a default that stands before the first FROM.",
    )


def _unreadable(line: str) -> NotAllowed:
    return NotAllowed("DockerfileInvalid", f"The Dockerfile's line {line[:60]!r} cannot be read.", "Fix that line.")
