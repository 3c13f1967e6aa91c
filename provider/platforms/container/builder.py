"""One build as a process of its own, so that a build outlives the provider that asked for it.

Run as `python -I builder.py FOLDER`; imports nothing but the standard library. The folder holds
`plan.json`; the builder adds `log`, and at the end `result.json`. It holds a lock on `alive` while it
lives, so that anybody can tell a running build from a dead one without trusting a process id.
With `--spare NETAVARK` it makes a network ready and waits to be told the folder on its standard input,
a socket, so that the next build need not wait for all that.

A Dockerfile is hostile code: its RUN steps run as root in a container, and its `ADD <url>` is fetched by
the engine's own process. So the whole engine process of a build is put into a network namespace of its
own, on an isolated bridge with NAT to the outside: neither can reach the host's loopback, where the bus,
the registry and the ingress's admin API listen. Base images are pulled before that, from the host's
network, because the local registry is one of the things that the namespace cannot reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

POOL = "10.124.{}.0/24"
POOL_FOLDER = Path("/run/x1-preview-builds")
"""Subnets are numbered for the whole machine, whatever state folder a provider has."""
POOL_SIZE = 250
SPARE_SECONDS = 600.0
WALL = ["FORWARD", "-i", "x1+", "-o", "x1+", "-m", "comment", "--comment", "x1-preview: apart", "-j", "DROP"]
"""No traffic between bridges of ours, whose names all begin like this; to anywhere else it may go."""
PUSH_PAUSES = (0.2, 0.5, 1, 2, 4, 8, 15, 15)


def keep_apart() -> None:
    """Make sure of the firewall's rule that cuts previews and builds from each other.

    The networks are made with `isolate`, but that is not enough: when any isolated network goes, netavark 1.4
    takes away the jump to its rules, and with it the isolation of all others, until the next one is made (seen).

    Raises:
        OSError, subprocess.SubprocessError: there is no working iptables.
    """
    present = subprocess.run(["iptables", "-w", "-C", *WALL], check=False, capture_output=True)
    if present.returncode:
        # First of all: netavark's own rule that accepts what comes from its networks is appended.
        subprocess.run(["iptables", "-w", "-I", *WALL], check=True, capture_output=True)


class BuildStopped(Exception):
    """Somebody asked this build to stop, or its time is up."""


class StepFailed(Exception):
    """A step ended badly; `state` names the step, `exit_code` is what its process said."""

    def __init__(self, state: str, exit_code: int) -> None:
        super().__init__(state)
        self.state = state
        self.exit_code = exit_code


class Cgroup:
    """The control groups of one build: they bound its processes, and find all of them when it must end."""

    root = Path("/sys/fs/cgroup")

    def __init__(self, build: str) -> None:
        self._name = f"x1-build-{build}"
        self.parent = f"/{self._name}"

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


class Network:
    """A network namespace on an isolated bridge of its own, made by netavark.

    The subnet comes from a small pool; a lock on its number keeps two builds apart and is freed by the
    kernel however a build ends.
    """

    def __init__(self, folder: Path, netavark: str) -> None:
        self._folder = folder
        self._netavark = netavark
        self._lock: TextIO | None = None
        self._number = -1
        self.ready = False
        self.namespace = folder / "unset"

    def create(self) -> None:
        """Take a number, make the namespace, connect it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take_number()
        self.namespace = self._folder / f"netns-{self._number}"
        self.remove()
        self.namespace.touch()
        subprocess.run(["unshare", f"--net={self.namespace}", "true"], check=True, capture_output=True)
        keep_apart()
        self._call("setup")
        self.ready = True

    def remove(self) -> None:
        """Disconnect and remove the namespace; also what a killed build left under this number."""
        if self.namespace.exists():
            self._call("teardown", check=False)
            subprocess.run(["umount", "--lazy", str(self.namespace)], check=False, capture_output=True)
            self.namespace.unlink(missing_ok=True)

    def _take_number(self) -> None:
        for number in range(POOL_SIZE):
            lock = (self._folder / f"{number}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            self._lock, self._number = lock, number
            return
        raise StepFailed("network_failed", 1)

    def _call(self, verb: str, check: bool = True) -> None:
        subnet = POOL.format(self._number)
        prefix = subnet.removesuffix("0/24")
        name = f"x1-build-{self._number}"
        network = {
            "name": name,
            "id": f"{self._number:064x}",
            "driver": "bridge",
            "network_interface": f"x1b{self._number}",
            "subnets": [{"subnet": subnet, "gateway": f"{prefix}1"}],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "options": {"isolate": "true"},
            "ipam_options": {"driver": "host-local"},
        }
        request = {
            "container_id": f"{self._number:064x}",
            "container_name": name,
            "networks": {name: {"static_ips": [f"{prefix}2"], "interface_name": "eth0"}},
            "network_info": {name: network},
        }
        subprocess.run(
            [self._netavark, verb, str(self.namespace)],
            input=json.dumps(request).encode(),
            check=check,
            capture_output=True,
        )


class Builder:
    """Runs the steps of one build: pull missing bases, build, push."""

    def __init__(self, folder: Path, log: TextIO, network: Network | None) -> None:
        self._folder = folder
        self._log = log
        self._plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping: str | None = None
        self._failure = ""
        self._cgroup = Cgroup(folder.name)
        self._others = (folder.parent / "running.lock").open("a")
        self.network = network or Network(POOL_FOLDER, self._plan["netavark"])
        self.timings: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Build, push, clean up; returns the result for `result.json`."""
        fcntl.flock(self._others, fcntl.LOCK_SH)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_signal)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, self._plan["deadline"] - time.time()))
        try:
            result = self._steps()
        except BuildStopped:
            # A registry that takes or gives nothing until time is up is the cause, not the Dockerfile.
            away = self._stopping == "timeout" and self._failure in {"push_failed", "base_failed"}
            result = {"state": self._failure if away else self._stopping, "timed_out": away}
        except StepFailed as failed:
            result = {"state": failed.state, "exit_code": failed.exit_code}
        except (OSError, subprocess.SubprocessError) as error:
            result = {"state": "builder_failed", "exit_code": 1, "error": str(error)[:500]}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._clean_up()
        return {**result, "timings": self.timings}

    def _steps(self) -> dict[str, Any]:
        plan = self._plan
        for image in plan["missing_images"]:
            self._step("base", [*self._podman(), "pull", "--quiet", *self._tls_for(image), image], "base_failed")
        self._cgroup.create(plan["pids"])
        if not self.network.ready:
            self.network.create()
        self._step("build", ["nsenter", f"--net={self.network.namespace}", *self._build_command()], "build_failed")
        self._push()
        digest = (self._folder / "digest").read_text().strip()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise StepFailed("push_failed", 1)
        return {"state": "pushed", "digest": digest, "image_id": (self._folder / "image-id").read_text().strip()}

    def _podman(self) -> list[str]:
        runtime: str = self._plan["runtime"]
        return ["podman", *(["--runtime", runtime] if runtime else [])]

    def _tls(self) -> list[str]:
        return ["--tls-verify=false"] if self._plan["insecure"] else []

    def _build_command(self) -> list[str]:
        plan = self._plan
        options = ["--network=host", "--format=docker", f"--memory={plan['memory']}", "--force-rm", "--rm"]
        options += [f"--cgroup-parent={self._cgroup.parent}", f"--iidfile={self._folder / 'image-id'}"]
        options += [f"--ulimit={limit}" for limit in plan["ulimits"]]
        options += [f"--build-arg={name}={value}" for name, value in plan["args"].items()]
        options += [f"--label={name}={value}" for name, value in plan["labels"].items()]
        tree = self._folder / "tree"
        options += [f"--tag={plan['image']}", f"--file={tree / plan['dockerfile']}"]
        return [*self._podman(), "build", *options, str(tree / plan["context"])]

    def _tls_for(self, image: str) -> list[str]:
        ours = image.startswith(self._plan["image"].partition("/")[0] + "/")
        return self._tls() if ours else []

    def _push(self) -> None:
        command = [*self._podman(), "push", "--quiet", *self._tls(), f"--digestfile={self._folder / 'digest'}"]
        for pause in (*PUSH_PAUSES, None):
            try:
                self._step("push", [*command, self._plan["image"]], "push_failed")
                return
            except StepFailed:
                if pause is None:
                    raise
                self._say(f"push failed, trying again in {pause} s")
                time.sleep(pause)

    def _step(self, name: str, command: list[str], failure: str) -> None:
        """Run one command; a stop that was asked for while it ran ends the build."""
        began = time.time()
        self._failure = failure
        # The engine's process must not outlive the builder, even if that is killed.
        command = ["setpriv", "--pdeathsig=KILL", *command]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        code = self._child.wait()
        self._child = None
        self.timings[name] = self.timings.get(name, 0.0) + time.time() - began
        if self._stopping:
            raise BuildStopped
        if code:
            raise StepFailed(failure, code)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = "timeout" if number == signal.SIGALRM else "stopped"
        if self._child is None:
            raise BuildStopped
        # A killed RUN step makes Podman end by itself and clean up; in between steps it has to be told.
        self._cgroup.kill()
        self._child.terminate()

    def _clean_up(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._cgroup.kill()
        self._cgroup.remove()
        shutil.rmtree(self._folder / "tree", ignore_errors=True)
        if not (self._folder / "digest").exists():
            self._remove_working_containers()

    def _remove_working_containers(self) -> None:
        """Remove what an interrupted build left in the engine's storage, if no other build is running.

        Nothing there says which build a working container belongs to, so only when there is just one.
        """
        try:
            fcntl.flock(self._others, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        listing = [*self._podman(), "ps", "--all", "--external", "--format={{.ID}} {{.Command}}"]
        found = subprocess.run(listing, check=False, capture_output=True, text=True).stdout.splitlines()
        working = [line.split()[0] for line in found if line.split()[1:] == ["buildah"]]
        if working:
            subprocess.run([*self._podman(), "rm", "--force", *working], check=False, capture_output=True)

    def _say(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()


def _locked(folder: Path) -> TextIO:
    """The folder's lock; it is free when the last process that has this file open ends."""
    alive = (folder / "alive").open("a+")
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return alive


def _named(alive: TextIO, pid: int) -> None:
    """Note who builds; done before anybody is told that the build has started."""
    alive.truncate(0)
    alive.write(str(pid))
    alive.flush()


def start(folder: Path) -> None:
    """Detach and build; whoever started us finds the builder as soon as this process ends."""
    alive = _locked(folder)
    if child := os.fork():
        _named(alive, child)
        os._exit(0)
    os.setsid()
    build(folder, alive, None)


def spare(netavark: str) -> None:
    """Detach, make a network ready, wait for a build; without one within a while, or when the other end goes, end."""
    if os.fork():
        os._exit(0)
    os.setsid()
    # Until there is a build to stop, the other end's end is what ends it: then the network goes with it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    network = Network(POOL_FOLDER, netavark)
    network.create()
    told = os.read(0, 4096) if select.select([0], [], [], SPARE_SECONDS)[0] else b""
    folder = Path(os.fsdecode(told))
    if not folder.is_absolute() or not folder.is_dir():  # told nothing, or of a build that was given up meanwhile
        network.remove()
        return
    alive = _locked(folder)
    _named(alive, os.getpid())
    os.write(0, b"started")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    build(folder, alive, network)


def build(folder: Path, alive: TextIO, network: Network | None) -> None:
    """Build, and leave the result where the provider (this one or the next) finds it."""
    with (folder / "log").open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        builder = Builder(folder, log, network)
        result = builder.run()
    draft = folder / "result.json.new"
    draft.write_text(json.dumps(result))
    draft.rename(folder / "result.json")
    # Nobody has to wait for the network's end: our own end tells that there is a result.
    if os.fork():
        os._exit(0)
    alive.close()
    builder.network.remove()


if __name__ == "__main__":
    if sys.argv[1] == "--spare":
        spare(sys.argv[2])
    else:
        start(Path(sys.argv[1]))
