"""What an exit code says by itself, by the conventions of shells and kernels."""

from __future__ import annotations

_MEANINGS = {
    0: "it ended well, as a command does; a server stays in the foreground",
    126: "found, but it may not be run",
    127: "a command was not found",
    132: "SIGILL: the machine has not the instructions that it was compiled for",
    134: "SIGABRT: it gave up by itself",
    135: "SIGBUS",
    136: "SIGFPE",
    137: "SIGKILL: somebody ended it, most often for its memory",
    139: "SIGSEGV: it touched memory that it may not",
    141: "SIGPIPE",
    143: "SIGTERM: it was asked to end",
}


def meaning(code: int | None) -> str:
    """What is known of a code; "" where there is no convention."""
    return _MEANINGS.get(code, "") if code is not None else ""


def told(code: int | None) -> str:
    """The code with its meaning: `exit code 127 (a command was not found)`."""
    if code is None:
        return "no exit code"
    return f"exit code {code}" + (f" ({meaning(code)})" if meaning(code) else "")
