"""A command of a build, in a process that is there before it is needed. Only the standard library: the builder uses it.

To make a process takes as long as to put up its walls, twice a build. So the next one is made while nobody waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from provider.platforms.container import build_walls

_FAILURE = 3
_RESTORED = (signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE, signal.SIGXFSZ)
"""What Python or the builder catch or ignore, which would be handed on to the command."""


class Step:
    """A process that waits to be told what it shall become; it ends with the one that made it.

    Attributes:
        output: where what the command says can be read.
    """

    def __init__(self) -> None:
        order, self._orders = os.pipe()
        self.output, output = os.pipe()
        self._failure, failure = os.pipe()
        self._code: int | None = None
        self._pid = os.fork()
        if not self._pid:
            _wait(order, output, failure)
        for theirs in (order, output, failure):
            os.close(theirs)

    def enclose(self, walls: Sequence[str]) -> None:
        """Have it go behind the walls that `build_walls.enter` puts up of these; what fails there, `become` tells."""
        self._tell({"walls": list(walls)})

    def become(self, command: Sequence[str]) -> None:
        """Return when the command runs.

        Raises:
            OSError: it can't be run.
        """
        self._tell({"command": list(command)})
        os.close(self._orders)
        with os.fdopen(self._failure, "rb") as failure:
            if problem := failure.read():
                raise OSError(problem.decode())

    def _tell(self, order: dict[str, list[str]]) -> None:
        rest = json.dumps(order).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it failed, and has said why
            while rest:
                rest = rest[os.write(self._orders, rest) :]

    def ended(self) -> bool:
        """Whether the command has ended."""
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def wait(self) -> int:
        """The command's exit code, negative for a signal, when it has ended."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if not self.ended():
            os.kill(self._pid, number)


def _close_others() -> None:
    """Hold no lock, and no end of another step's pipes."""
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number > _FAILURE:
            with contextlib.suppress(OSError):  # that of the listing
                os.close(number)


def _wait(order: int, output: int, failure: int) -> NoReturn:
    """In the new process: become what is told, and end when nothing is, for whoever might is gone."""
    try:
        build_walls.die_with_parent()
        for handled in _RESTORED:
            signal.signal(handled, signal.SIG_DFL)
        for end, number in ((order, 0), (output, 1), (output, 2)):
            os.dup2(end, number)
        os.dup2(failure, _FAILURE, inheritable=False)
        _close_others()
        with os.fdopen(0, "rb", closefd=False) as told:
            orders: dict[str, list[str]] = json.loads(told.readline())
            if walls := orders.get("walls"):
                build_walls.enter(Path(walls[0]), Path(walls[1]), walls[2])
                orders = json.loads(told.readline())
        command = orders["command"]
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)  # noqa: S606 - a shell is not wanted
    except BaseException as error:
        os.write(_FAILURE, f"{error}".encode())
    finally:
        os._exit(127)
