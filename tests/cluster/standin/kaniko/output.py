"""Kaniko's log: its own lines in the format that was asked for, the output of steps as it is."""

from __future__ import annotations

import json

from tests.cluster.standin.node.program import Life

COLORS = {"info": "36", "warning": "33", "error": "31"}
FORMATS = ("text", "color", "json")


class Output:
    """Writes to the container's log."""

    def __init__(self, life: Life, form: str) -> None:
        self._life = life
        self._form = form

    def info(self, message: str) -> None:
        """A line of Kaniko's own."""
        self._log("info", message)

    def warning(self, message: str) -> None:
        """A warning of Kaniko's own."""
        self._log("warning", message)

    def raw(self, text: str) -> None:
        """What a step, or the program before its log is set up, prints."""
        self._life.log.write(text)

    def _log(self, level: str, message: str) -> None:
        moment = self._life.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        if self._form == "json":
            line = json.dumps({"level": level, "msg": message, "time": moment}, separators=(",", ":"))
        elif self._form == "text":
            line = f'time="{moment}" level={level} msg={json.dumps(message)}'
        else:
            line = f"\x1b[{COLORS[level]}m{level.upper()[:4]}\x1b[0m[{int(self._life.age):04d}] {message}"
        self._life.log.write(line)
