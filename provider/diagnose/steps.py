"""A Dockerfile's instructions by the user's own lines, and how far a build came. Only the standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

_CONTINUED = re.compile(r"\\[ \t]*$")
_BEGUN = re.compile(
    r"^(?:(?:\[\d+/\d+\] )?STEP \d+/\d+: (?P<plain>\S.*)|time=\"[^\"]*\" level=info msg=(?P<quoted>\".*\"))$"
)
"""How Podman, and how Kaniko (as text, without colours), tells which instruction it begins."""
WORDS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
"""What an instruction can begin with."""
_STAGE = re.compile(r"^FROM\s+(?:--\S+\s+)*\S+\s+AS\s+(?P<name>\S+)", re.IGNORECASE)
MOST_SHOWN = 100
MOST_STEPS = 2000


class Step(NamedTuple):
    """An instruction, and the line, from 1, on which it begins."""

    line: int
    text: str

    @property
    def shown(self) -> str:
        """Its beginning, to be quoted."""
        text = squeezed(self.text)
        return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN].rstrip() + " …"

    @property
    def word(self) -> str:
        """Its first word: FROM, RUN and so on."""
        return self.text.split(None, 1)[0].upper() if self.text.strip() else ""


def instructions(text: str) -> Iterator[tuple[int, str]]:
    """(index of its first line, instruction) with continued lines joined, comments and blank lines left out."""
    joined, began = "", -1
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n")):
        line = raw.rstrip("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        began = number if began < 0 else began
        joined += _CONTINUED.sub("", line)
        if not _CONTINUED.search(line):
            yield began, joined
            joined, began = "", -1
    if began >= 0:
        yield began, joined


def steps(text: str) -> list[Step]:
    """The instructions of a Dockerfile, in order; of a monstrous one the first."""
    return [Step(index + 1, instruction.strip()) for index, instruction in islice(instructions(text), MOST_STEPS)]


def squeezed(text: str) -> str:
    """The text with single spaces: builders write them as they like."""
    return " ".join(text.split())


def begun(line: str) -> str:
    """The instruction that a line of the log says is begun; "" where it says something else."""
    told = _BEGUN.match(line)
    if told is None:
        return ""
    if told["plain"] is not None:
        return told["plain"]
    try:
        text = str(json.loads(told["quoted"]))
    except ValueError:
        return ""
    return text if text.partition(" ")[0].upper() in WORDS else ""


def reached(of: Sequence[Step], log: Iterable[str], said: str = "") -> Step | None:
    """The last instruction that a build's log says was begun, else the one that its last word quotes.

    What steps write is in the log, too: only what is the text of an instruction that comes later counts.
    """
    texts = [squeezed(one.text) for one in of]
    rest = 0
    for text in filter(None, (squeezed(begun(line)) for line in log)):
        with suppress(ValueError):
            rest = texts.index(text, rest) + 1
    if rest:
        return of[rest - 1]
    quoted = [one for one, text in zip(of, texts, strict=True) if f'STEP "{text}"' in squeezed(said)]
    return quoted[0] if len(quoted) == 1 else None


def output_of(log: Sequence[str]) -> list[str]:
    """What the last instruction wrote: the lines after the one that tells its beginning."""
    last = max((index for index, line in enumerate(log) if begun(line)), default=-1)
    return list(log[last + 1 :])


def naming(of: Sequence[Step], image: str) -> Step | None:
    """The first FROM, or `--from=`, that names the image or stage."""
    words = {image, image.removesuffix(":latest"), image.removeprefix("docker.io/library/")}
    for one in of:
        text = one.text.split()
        sources = {word.removeprefix("--from=") for word in text if word.startswith("--from=")}
        if words & sources or (one.word == "FROM" and words & set(text[1:])):
            return one
    return None


def quoting(of: Sequence[Step], words: str) -> Step | None:
    """The instruction that these words stand in: an image, an option, the beginning of its text."""
    named = naming(of, words)
    within = (one for one in of if squeezed(words) in squeezed(one.text))
    return named if named is not None else next(within, None)


def stages(of: Sequence[Step]) -> list[str]:
    """The names of a Dockerfile's stages."""
    return [found["name"] for one in of if (found := _STAGE.match(one.text))]
