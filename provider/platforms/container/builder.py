"""One build as a process of its own, so that a build outlives the provider that asked for it.

Run by `spare.launch` as `builder.main([FOLDER, BASES])`; imports nothing but the standard library and what needs no
more. The folder holds `plan.json` and `Dockerfile`; BASES is JSON, the base images that the engine lacks. The builder
adds `log`, and at the end `result.json`. It holds a lock on `alive` while it lives, so that anybody can tell a running
build from a dead one without trusting a process id. With `--spare NETAVARK` it makes a network ready and waits to be
told the folder on its standard input, a socket, so that the next build need not wait for all that; it makes the rest
ready while the Dockerfile is being written, until it is told the bases, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from pathlib import Path
from typing import TextIO

from provider.platforms.container.build_log import TAIL_BYTES, BoundedLog
from provider.platforms.container.build_network import POOL_FOLDER, Network
from provider.platforms.container.build_step import Step
from provider.platforms.container.build_steps import Bases, Builder, GivenUp

SPARE_SECONDS = 600.0
LOCK_SECONDS = 5
REST_SECONDS = 0.2
"""Between the result and what nobody waits for: the deploy goes on meanwhile."""


def _locked(folder: Path) -> TextIO:
    """The folder's lock; it is free when the last process that has this file open ends.

    One that was told of this build too late may hold it while it ends; after a while SIGALRM ends whoever waits.
    """
    alive = (folder / "alive").open("a+")
    signal.alarm(LOCK_SECONDS)
    fcntl.flock(alive, fcntl.LOCK_EX)
    signal.alarm(0)
    return alive


def _named(alive: TextIO, pid: int) -> None:
    """Note who builds; done before anybody is told that the build has started."""
    alive.truncate(0)
    alive.write(str(pid))
    alive.flush()


def start(folder: Path, bases: list[str]) -> None:
    """Detach and build; whoever started us finds the builder as soon as this process ends."""
    alive = _locked(folder)
    if child := os.fork():
        _named(alive, child)
        os._exit(0)
    os.setsid()
    build(folder, alive, lambda: bases)


def spare(netavark: str) -> None:
    """Detach, make a network ready, wait for a build; without one within a while, or when the other end goes, end."""
    if os.fork():
        os._exit(0)
    os.setsid()
    # Until there is a build to stop, the other end's end is what ends it: then the network goes with it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    network = Network(POOL_FOLDER, netavark)
    network.create()
    waiting = Step()
    told = os.read(0, 4096) if select.select([0], [], [], SPARE_SECONDS)[0] else b""
    folder = Path(os.fsdecode(told))
    if not folder.is_absolute() or not folder.is_dir():  # told nothing, or of a build that was given up meanwhile
        network.remove()
        return
    alive = _locked(folder)
    _named(alive, os.getpid())
    os.write(0, b"started")
    build(folder, alive, _told_bases, network, waiting)


def _told_bases() -> list[str]:
    """Wait for them on the standard input, which ends after them, or before when the build is given up."""
    told = b""
    while some := os.read(0, 4096):
        told += some
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        return list(json.loads(told))
    except ValueError:
        raise GivenUp from None


def build(
    folder: Path, alive: TextIO, bases: Bases, network: Network | None = None, waiting: Step | None = None
) -> None:
    """Build, and leave the result where the provider (this one or the next) finds it."""
    most = int(json.loads((folder / "plan.json").read_text())["log_bytes"])
    with contextlib.closing(BoundedLog(folder / "log", head=max(0, most - TAIL_BYTES))) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        builder = Builder(folder, bases, log, network, waiting)
        result = builder.run()
    if result["state"] == "given_up":
        builder.network.remove()
        return
    draft = folder / "result.json.new"
    draft.write_text(json.dumps(result))
    draft.rename(folder / "result.json")
    # Our own end tells that there is a result. A provider that hears it removes all.
    if os.fork():
        os._exit(0)
    alive.close()
    time.sleep(REST_SECONDS)
    if (folder / "result.json").exists():
        builder.remove_files()
    builder.network.remove()


def main(arguments: list[str]) -> None:
    """Be a builder: for the build in a folder, with those bases, or (`--spare NETAVARK`) for one still to be named."""
    if arguments[0] == "--spare":
        spare(arguments[1])
    else:
        start(Path(arguments[0]), json.loads(arguments[1]))
