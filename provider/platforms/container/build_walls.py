"""The walls around the engine's process of one build. Only the standard library: the builder uses it.

They are put up in the new process itself, between fork and exec, by system calls: the programs of util-linux that
do the same (nsenter, unshare, mount, setpriv) are eight processes and took 12 ms a build.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

HIDDEN = ("secrets", "git")
"""Folders beside that of the builds in which an engine process has no business."""

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """The engine's process must not outlive the builder, even if that is killed."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")


def enter(network: Path, folder: Path, resolver: str) -> None:
    """Go into the build's network, and into a mount namespace without what the build must not see.

    Args:
        network: the network namespace.
        folder: the build's; of all builds it alone can be seen, in a tmpfs.
        resolver: what /etc/resolv.conf shall be; "" leaves it.
    """
    os.chdir(folder)
    namespace = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
    _checked(_libc.setns(namespace, _CLONE_NEWNET), "setns")
    _checked(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount("none", "/", flags=_MS_REC | _MS_SLAVE)  # what the machine unmounts goes here, too; nothing goes back
    for hidden in HIDDEN:
        if (folder.parent.parent / hidden).is_dir():
            _mount("hidden", folder.parent.parent / hidden, "tmpfs", options="size=4k,mode=0")
    _mount("builds", folder.parent, "tmpfs", options="size=64k,mode=0700")
    folder.mkdir()
    _mount(".", folder, flags=_MS_BIND)  # where we have been all the time
    if resolver:
        _mount(resolver, "/etc/resolv.conf", flags=_MS_BIND)
    os.chdir(folder)
    (folder / "tmp").mkdir(exist_ok=True)
    os.putenv("TMPDIR", str(folder / "tmp"))  # Podman keeps folders there, by names that a Dockerfile gives


def _mount(source: str, target: str | Path, kind: str | None = None, *, flags: int = 0, options: str = "") -> None:
    encoded = [os.fsencode(text) if text else None for text in (source, target, kind)]
    _checked(_libc.mount(*encoded, ctypes.c_ulong(flags), os.fsencode(options) or None), f"mount {target}")


def _checked(code: int, what: str) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
