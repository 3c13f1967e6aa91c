"""The control groups of one build. Only the standard library: the builder uses it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path


class Cgroup:
    """They bound a build's processes, and find all of them when it must end.

    The OCI runtime removes the group that it is told after each RUN step, and a limit with it: so it is told one
    below that of the limit.
    """

    root = Path("/sys/fs/cgroup")

    def __init__(self, build: str) -> None:
        self._name = f"x1-build-{build}"
        self.parent = f"/{self._name}/run"

    def create(self, pids: int) -> None:
        """Make the group in which processes are counted, and set their limit; the runtime makes the others."""
        unified = (self.root / "cgroup.controllers").exists()
        folder = (self.root if unified else self.root / "pids") / self._name
        folder.mkdir(exist_ok=True)
        (folder / "pids.max").write_text(str(pids))

    def kill(self) -> None:
        """End every process that is in the groups."""
        for _ in range(50):
            pids = {int(pid) for folder in self._folders() for pid in _processes_below(folder)}
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def remove(self) -> None:
        """Remove the groups; one that is still busy is left to the next sweep."""
        for folder in self._folders():
            below = sorted(folder.rglob("*/"), key=lambda path: len(path.parts), reverse=True)
            for path in (*below, folder):
                with contextlib.suppress(OSError):
                    path.rmdir()

    def _folders(self) -> list[Path]:
        return [path for path in (self.root / self._name, *self.root.glob(f"*/{self._name}")) if path.is_dir()]


def _processes_below(folder: Path) -> Iterator[str]:
    for procs in folder.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            yield from procs.read_text().split()
