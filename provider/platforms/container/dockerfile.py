"""Which images a Dockerfile starts from, as far as its text says.

The builder pulls them before it goes behind its own network (see `builder`). What cannot be told from
the text is no error: the engine then tries to pull it itself, from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))")
_IMAGE = re.compile(r"[a-z0-9][\w.:/@-]{0,400}", re.IGNORECASE)
_TRANSPORTS = ("dir:", "oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "containers-storage:", "sif:")


def base_images(text: str, args: dict[str, str]) -> tuple[str, ...]:
    """Images named by `FROM` and `COPY --from`, in order, without stages and `scratch`.

    Args:
        text: the Dockerfile.
        args: build arguments that were given; they win over the defaults of `ARG`.
    """
    variables: dict[str, str] = {}
    stages: set[str] = set()
    images: dict[str, None] = {}
    for instruction, rest in _instructions(text):
        if instruction == "ARG":
            name, _, default = rest.partition("=")
            variables[name.strip()] = args.get(name.strip(), default.strip().strip("\"'"))
        elif instruction == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            _add(images, _expand(words[0], variables) if words else "", stages)
            if len(words) >= 3 and words[1].upper() == "AS":
                stages.add(words[2].lower())
        elif instruction in {"COPY", "RUN"}:
            for source in re.findall(r"(?:--from=|[,=]from=)([^\s,]+)", rest):
                _add(images, _expand(source, variables), stages)
    return tuple(images)


def local_transport(images: tuple[str, ...]) -> str | None:
    """The first image that would be read from this machine's files instead of a registry, if any."""
    return next((image for image in images if image.lower().startswith(_TRANSPORTS)), None)


def _add(images: dict[str, None], image: str, stages: set[str]) -> None:
    if _IMAGE.fullmatch(image) and image != "scratch" and image.lower() not in stages and not image.isdigit():
        images[image] = None


def _expand(word: str, variables: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        return variables.get(name) or match["default"] or ""

    return _VARIABLE.sub(value, word)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, rest) with continued lines joined and comments left out."""
    logical = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        logical += line.removesuffix("\\") + " "
        if line.endswith("\\"):
            continue
        word, _, rest = logical.strip().partition(" ")
        logical = ""
        yield word.upper(), rest.strip()
