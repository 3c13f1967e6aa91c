"""Where the sources of these tests are, and what looks at them from outside."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from provider.demo.git_server import GitServer
from provider.errors import PreviewError
from provider.models import Secret
from provider.source import Source
from provider.source.git import basic_authorization

REPO = "acme/shop"
TOKEN = "ghs_AVeryRecognisableToken"
ENCODED = basic_authorization("x-access-token", Secret(TOKEN)).removeprefix("Basic ")
INSTALLATION = 7
NOWHERE = "1" * 40

MakeSource = Callable[..., Source]


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", f"--git-dir={repository}", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout.decode().strip()


def bare(host: GitServer, repo: str = REPO) -> Path:
    return host.root / f"{repo}.git"


def caches(tmp_path: Path) -> list[Path]:
    return [path.parent for path in (tmp_path / "state" / "git").glob("*/HEAD")]


def processes(word: str) -> dict[int, str]:
    """Command lines that contain `word`, by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found[int(path.parent.name)] = line
    return found


def wait_until_gone(pids: list[int]) -> None:
    """A killed process needs a moment; a pidfd says when it is over."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], 5)[0], f"process {pid} lives on"
        finally:
            os.close(descriptor)


async def failing(source: Source, branch: str = "main", sha: str | None = None, repo: str = REPO) -> PreviewError:
    """The error of resolving with the installation's credentials."""
    with pytest.raises(PreviewError) as caught:
        await source.resolve(repo, branch, sha, INSTALLATION)
    shown = repr(vars(caught.value)) + str(caught.value)
    assert TOKEN not in shown
    assert ENCODED not in shown
    return caught.value


def commit_body(number: int) -> bytes:
    """A commit of the empty tree, by a fixed author and time."""
    empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    who = "A <a@example.org> 1704067200 +0000"
    return f"tree {empty_tree}\nauthor {who}\ncommitter {who}\n\n{number}\n".encode()
