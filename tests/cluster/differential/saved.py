"""A real server's normalised answers, kept in the repository: the stand-in is held against them in every test run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.differential.steps import Json

SAVED = Path(__file__).with_name("saved.jsonl")  # the first line names the server, then one step a line


def save(version: str, answers: Mapping[str, Json], path: Path = SAVED) -> None:
    """Write them, sorted, so that another server's answers make a readable diff."""
    lines = [{"server": version}, *({"step": step, **answers[step]} for step in sorted(answers))]
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def load(path: Path = SAVED) -> tuple[str, dict[str, Json]]:
    """The server's version and its answers by step."""
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    return head["server"], {line.pop("step"): line for line in lines}
