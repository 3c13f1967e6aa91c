"""Leave nothing behind: end and remove what belongs to a stack's folder, also of stacks that crashed.

Everything that a stack starts can be told by its folder: servers and conmon name it in their arguments,
builders in their environment, containers by the layer that is their root. So no list of ids is kept that
a crash could leave unwritten. A stack that lives holds a lock on its folder; a folder without one is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from provider.demo.engine import engine_environment, is_overlay_root, mounts, networks_of
from provider.demo.processes import StackError, clean_environment, run
from provider.platforms.container import firewall

PREFIX = "x1-preview-stack-"
LOCK = "owner.lock"
PURGE_TIMEOUT = 20.0
PURGE_ROUNDS = 3
END_TIMEOUT = 3.0
BUILDER_END_TIMEOUT = 15.0
BUILDER = "builder.py"
LONGEST_SOCKET_PATH = 107
PROGRAMS = frozenset({"nats-server", "docker-registry", "caddy", "podman", "buildah", "conmon", "runc", "crun"})


@contextlib.contextmanager
def own_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new temporary folder `x1-preview-stack-<pid>-…`, locked while this process lives.

    It gets its name only when it is locked, so nobody takes it for a dead one. Removing it is the caller's.
    """
    base = _base(parent)
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{os.getpid()}-", dir=base))
    folder = made.with_name(made.name.removeprefix("."))
    if len(str(folder / "podman.sock")) > LONGEST_SOCKET_PATH:
        made.rmdir()
        raise StackError(f"{folder} is too long a path for a socket below it: set TMPDIR to a shorter one.")
    with (made / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(folder)
        yield folder


async def sweep(parent: Path | None = None) -> list[Path]:
    """Remove what crashed stacks left; the folders that are gone now.

    One that cannot be removed is left for the next time: it must not keep a new stack from starting.
    """
    swept = []
    for folder in _candidates(parent):
        with contextlib.suppress(OSError, StackError), (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await purge(folder)
            swept.append(folder)
    return swept


def _base(parent: Path | None) -> Path:
    return Path(parent or tempfile.gettempdir()).resolve()


def _candidates(parent: Path | None) -> list[Path]:
    return [folder for folder in sorted(_base(parent).glob(f"{PREFIX}*")) if _is_ours(folder)]


def _is_ours(folder: Path) -> bool:
    # Anybody can make a folder of that name in /tmp, and purging runs podman as root with what stands in it.
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


async def purge(folder: Path) -> None:
    """End and remove all that belongs to `folder`, and the folder. Can be repeated.

    Raises:
        StackError: something is left; the message names it.
    """
    env = {**clean_environment(folder), **engine_environment(folder)}
    # A builder has a network and control groups that lie outside of the folder, and takes them with it.
    await _end(builders_of(folder), folder, signal.SIGTERM, BUILDER_END_TIMEOUT)
    if (folder / "engine" / "graph" / "libpod").exists():
        with contextlib.suppress(TimeoutError):
            await run("podman", "rm", "--all", "--force", "--time", "0", env=env, timeout=PURGE_TIMEOUT)
        if names := networks_of(folder):
            with contextlib.suppress(TimeoutError):
                await run("podman", "network", "rm", "--force", *names, env=env, timeout=PURGE_TIMEOUT)
    # What ends may start a last helper that mounts or writes something: then once more.
    for _ in range(PURGE_ROUNDS):
        await _end(processes_of(folder), folder)
        for mount in mounts_below(folder):
            await run("umount", "--lazy", mount, env=env, timeout=PURGE_TIMEOUT)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if not _left_of(folder):
            await asyncio.to_thread(firewall.remove_unused)
            return
    raise StackError(f"Could not remove all of {folder}: left are {_left_of(folder)}.")


def _left_of(folder: Path) -> str:
    """What is still there, in words; "" if nothing is."""
    processes, mounted = processes_of(folder), mounts_below(folder)
    if processes or mounted or folder.exists():
        return f"processes {processes}, mounts {mounted}, files {sorted(map(str, folder.rglob('*')))[:5]}"
    return ""


def processes_of(folder: Path) -> list[int]:
    """Ids of the processes that belong to `folder`: servers, conmon, builders, and whatever runs in containers."""
    return [pid for pid in _process_ids() if _belongs(pid, folder)]


def builders_of(folder: Path) -> list[int]:
    """Ids of the detached builder processes (`platforms/container/builder.py`) whose engine is that of `folder`."""
    return [pid for pid in _process_ids() if _builds_in(pid, folder)]


def _builds_in(pid: int, folder: Path) -> bool:
    script = any(Path(os.fsdecode(word)).name == BUILDER for word in _read(pid, "cmdline").split(b"\0")[:6])
    return script and os.fsencode(folder) + b"/" in _read(pid, "environ")


def mounts_below(folder: Path) -> list[str]:
    """Mount points below `folder`, the innermost first."""
    return sorted((point for point, _ in mounts() if Path(point).is_relative_to(folder)), reverse=True)


def _process_ids() -> list[int]:
    own = os.getpid()
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != own]


def _belongs(pid: int, folder: Path) -> bool:
    inside = os.fsencode(folder) + b"/"
    arguments = _read(pid, "cmdline").split(b"\0")
    if Path(os.fsdecode(arguments[0])).name in PROGRAMS:
        return any(inside in argument for argument in arguments) or inside in _read(pid, "environ")
    if _builds_in(pid, folder):
        return True
    return any(is_overlay_root(line, folder) for line in _read(pid, "mountinfo").decode(errors="replace").splitlines())


def _read(pid: int, name: str) -> bytes:
    # A process may end while it is looked at, and a zombie has nothing to read.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


async def _end(
    pids: list[int], folder: Path, number: signal.Signals = signal.SIGKILL, timeout: float = END_TIMEOUT
) -> None:
    """Send a signal, and wait for the end of each by its pidfd: none of them need be our child."""
    await asyncio.gather(*(_end_one(pid, folder, number, timeout) for pid in pids))


async def _end_one(pid: int, folder: Path, number: signal.Signals, timeout: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _belongs(pid, folder):  # looked at again: now that we hold it, the id cannot be another's
                signal.pidfd_send_signal(descriptor, number)
                await _readable(descriptor, timeout)
        finally:
            os.close(descriptor)


async def _readable(descriptor: int, timeout: float) -> None:
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await gone.wait()
    finally:
        loop.remove_reader(descriptor)
