"""Whether a secret stands where it must not: in any file that a stack left, in what processes were started with.

A value is looked for as it is, URL-encoded, in JSON, and in base64 wherever in a longer text it begins.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, quote_plus

CANARY = f"canary-{os.urandom(12).hex()}/+?"
"""A secret that tests send through every path; each of pytest's workers has one of its own."""
OVERLAP = 4096
CHUNK = 1 << 20
LOOK_SECONDS = 0.2


def forms(value: str) -> frozenset[bytes]:
    """The ways in which the value may be written."""
    data = value.encode()
    quoted = (quote(value), quote(value, safe=""), quote_plus(value))
    found = {data, json.dumps(value)[1:-1].encode(), *(one.encode() for one in quoted)}
    for before in range(3):  # what comes before it shifts it within groups of three bytes
        encoded = base64.b64encode(b"\0" * before + data)
        own = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]  # characters of nothing but its own bits
        found |= {own, own.replace(b"+", b"-").replace(b"/", b"_")}
    return frozenset(one for one in found if len(one) >= 8)


def in_bytes(data: bytes, secrets: Iterable[str]) -> bool:
    """Whether one of the secrets stands in the data."""
    return any(form in data for value in secrets for form in forms(value))


def in_files(folder: Path, secrets: Sequence[str], but: Sequence[str] = ()) -> list[str]:
    """The files below the folder that hold one of the secrets, but for those whose path matches one of `but`."""
    wanted = [form for value in secrets for form in forms(value)]
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or any(name.match(one) or _below(name, one) for one in but):
            continue
        if _holds(path, wanted):
            found.append(str(name))
    return found


def _below(name: Path, pattern: str) -> bool:
    return any(parent.match(pattern) for parent in name.parents)


def _holds(path: Path, wanted: list[bytes]) -> bool:
    """Piece by piece: what a test wrote may be large."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            data = rest + piece
            if any(form in data for form in wanted):
                return True
            rest = data[-OVERLAP:]
    return False


@dataclass
class Arguments:
    """Looks at what processes are started with, as anybody on the machine could, while it is entered.

    Attributes:
        found: the command lines that hold one of the secrets.
    """

    secrets: Sequence[str]
    found: set[bytes] = field(default_factory=set)
    looked_at: int = 0
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        wanted = [form for value in self.secrets for form in forms(value)]
        before: set[str] = set()
        while not self._end.wait(LOOK_SECONDS):
            present = {one.name for one in Path("/proc").iterdir() if one.name.isdigit()}
            for pid in present - before:
                try:
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                self.looked_at += 1
                if any(form in line for form in wanted):
                    self.found.add(line)
            before = present
