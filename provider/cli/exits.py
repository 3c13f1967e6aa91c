"""Exit codes, and which error ends with which."""

from __future__ import annotations

from enum import IntEnum

EXIT_CODES_HELP = """\b
Exit codes:
  0    ok
  1    a bug of this program
  2    wrong usage or configuration
  3    failed, and whoever asked can fix it
  4    failed, and whoever runs the platform has to act
  5    no answer: no provider, no connection, or out of time
  130  interrupted"""


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    BUG = 1
    USAGE = 2
    USER = 3
    PLATFORM = 4
    NO_ANSWER = 5
    INTERRUPTED = 130


def blame(whose: str) -> Exit:
    """The exit code of a failure that `whose` (user or platform) has to fix."""
    return Exit.USER if whose == "user" else Exit.PLATFORM
