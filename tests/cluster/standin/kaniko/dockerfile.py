"""As much of a Dockerfile as Kaniko looks at before it runs anything."""

from __future__ import annotations

import re
from dataclasses import dataclass

INSTRUCTIONS = frozenset(
    {
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
        *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    }
)


class DockerfileError(Exception):
    """It can't be built, in Kaniko's words."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, with the line on which it begins."""

    line: int
    name: str
    text: str


def parse(content: str) -> list[Instruction]:
    """The instructions, continued lines joined and here-documents left out.

    Raises:
        DockerfileError: an unknown instruction, or none at all.
    """
    made, lines = [], list(enumerate(content.splitlines(), start=1))
    while lines:
        number, text = lines.pop(0)
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        while text.rstrip().endswith("\\") and lines:
            text = text.rstrip()[:-1] + _continued(lines)
        for end in re.findall(r"<<-?[\"']?(\w+)", text):
            while lines and lines.pop(0)[1].strip() != end:
                pass
        made.append(_instruction(number, text.strip()))
    if not made:
        raise DockerfileError("parsing dockerfile: file with no instructions")
    return made


def _continued(lines: list[tuple[int, str]]) -> str:
    """The next line that is no comment."""
    while lines:
        _, text = lines.pop(0)
        if not text.lstrip().startswith("#"):
            return text
    return ""


def _instruction(number: int, text: str) -> Instruction:
    name = text.split()[0].upper()
    if name not in INSTRUCTIONS:
        why = f"dockerfile parse error on line {number}: unknown instruction: {text.split()[0]}"
        raise DockerfileError(f"parsing dockerfile: {why}")
    return Instruction(number, name, text)


def check_target(instructions: list[Instruction], target: str) -> None:
    """Refuse a stage that is not there.

    Raises:
        DockerfileError: `target` names none.
    """
    stages = [one.text.split() for one in instructions if one.name == "FROM"]
    names = {words[-1].lower() for words in stages if len(words) > 2 and words[-2].upper() == "AS"}
    if target and target.lower() not in names | {str(index) for index in range(len(stages))}:
        raise DockerfileError(f"{target} is not a valid target build stage")


def base_images(instructions: list[Instruction]) -> list[str]:
    """What is built upon: no earlier stage, not `scratch`, and nothing that an ARG decides."""
    found, stages = [], {"scratch"}
    for words in (one.text.split() for one in instructions if one.name == "FROM"):
        image, *name = [word for word in words[1:] if not word.startswith("--")]
        if image.lower() not in stages and "$" not in image:
            found.append(image)
        if len(name) == 2:
            stages.add(name[1].lower())
    return found
