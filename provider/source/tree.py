"""What stands at a path of a commit."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "dir", "symlink"]
GITMODULES = ".gitmodules"
_MODULE_PATH = re.compile(r"^\s*path\s*=\s*(\S.*?)\s*$", re.MULTILINE)

# By the first two digits of git's mode. A submodule (16) is nothing: its files are not in the repository.
KINDS: dict[str, Kind] = {"10": "file", "04": "dir", "12": "symlink"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at a path of a commit; `size` in bytes, 0 for a folder."""

    kind: Kind
    oid: str
    size: int


def relative(path: str) -> str | None:
    """`path` relative to the root and normal (`.` is the root); None where nothing of the tree can be."""
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        return None
    return posixpath.normpath(path)


def submodules(text: str) -> tuple[str, ...]:
    """The paths that a `.gitmodules` names."""
    return tuple(_MODULE_PATH.findall(text))


def entries(listed: str) -> dict[str, Entry]:
    """Entries by path, from lines `<mode> <type> <oid> <size>\\t<path>` that end with NUL.

    Raises:
        ValueError: something listed is not there.
    """
    found: dict[str, Entry] = {}
    for line in listed.split("\0")[:-1]:
        meta, _, path = line.partition("\t")
        mode, _, oid, size = meta.split()
        if kind := KINDS.get(mode[:2]):
            found[path] = Entry(kind, oid, 0 if size == "-" else int(size))
    return found
