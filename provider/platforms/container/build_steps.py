"""The steps of one build, in the builder's process: missing bases are pulled, then it is built, then pushed.

A Dockerfile is hostile code: its RUN steps run as root in a container, and its `ADD <url>` is fetched by the
engine's own process. So the whole engine process of a build is put into a network namespace of its own, on an
isolated bridge with NAT to the outside, and base images are pulled from there: nothing of it can reach the host's
loopback, where the bus, the registry and the ingress's admin API listen. Only from our own registry, which may
listen there too, images are pulled before. The engine gets a mount namespace as well, in which the provider's
secrets and other builds are out of sight, should it be led out of the tree (see `dockerfile` for how it is not).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from provider.platforms import dockerfile, pushes
from provider.platforms.container import base_images
from provider.platforms.container.build_cgroup import Cgroup
from provider.platforms.container.build_log import BoundedLog, last_line
from provider.platforms.container.build_network import POOL_FOLDER, Network, NoNetworkLeft, resolver
from provider.platforms.container.build_step import Step

PUSH_PAUSES = (0.2, 0.5, 1, 2, 4, 8, 15, 15)
INSPECT_SECONDS = 30.0
LOCAL_ONLY = {
    "default": [{"type": "reject"}],
    "transports": {"containers-storage": {"": [{"type": "insecureAcceptAnything"}]}},
}
"""What `podman build` may take images from: the engine's own storage, whatever transport is named."""


Bases = Callable[[], list[str]]


class BuildStopped(Exception):
    """Somebody asked this build to stop, or its time is up."""


class GivenUp(Exception):
    """Whoever wanted the build has gone before there was anything to build."""


class StepFailed(Exception):
    """A step ended badly; `state` names the step, `exit_code` is what its process said."""

    def __init__(self, state: str, exit_code: int) -> None:
        super().__init__(state)
        self.state = state
        self.exit_code = exit_code


class Builder:
    """Runs the steps of one build: pull missing bases, build, push.

    Args:
        folder: the build's.
        bases: tells the base images that the engine lacks, when everything is there; or raises GivenUp.
        log: takes what the steps say.
        network: one that is ready, if there is.
        waiting: the process of the first step, if there is.
    """

    def __init__(
        self, folder: Path, bases: Bases, log: BoundedLog, network: Network | None, waiting: Step | None
    ) -> None:
        self._folder = folder
        self._bases = bases
        self._log = log
        self._plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        self._waiting: Step | None = waiting
        self._enclosed: Step | None = None
        self._child: Step | None = None
        self._stopping: str | None = None
        self._failure = ""  # what a step that began is called when it fails
        self._own_registry = False
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
        except dockerfile.NotAllowed as refused:
            said = {"reason": refused.reason, "message": str(refused), "hint": refused.hint}
            result = {"state": "not_allowed", **said}
        except GivenUp:
            result = {"state": "given_up"}
        except NoNetworkLeft:
            result = {"state": "network_failed", "exit_code": 1}
        except StepFailed as failed:
            result = {"state": failed.state, "exit_code": failed.exit_code, "own_registry": self._own_registry}
        except (OSError, subprocess.SubprocessError) as error:
            result = {"state": "builder_failed", "exit_code": 1, "error": str(error)[:500]}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if result["state"] != "pushed":  # else all processes have ended, and the rest can wait for the result
            self._clean_up()
        return {**result, "timings": self.timings}

    def _steps(self) -> dict[str, Any]:
        plan = self._plan
        self._cgroup.create(plan["pids"])
        if not self.network.ready:
            self.network.create()
        (self._folder / "policy.json").write_text(json.dumps(LOCAL_ONLY))
        self._enclosed = self._next(apart=True)
        for image in self._bases():
            self._pull(image)
        self._step("build", self._build_command(), "build_failed", apart=True)
        self._push()
        digest = (self._folder / "digest").read_text().strip()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise StepFailed("push_failed", 1)
        return {"state": "pushed", "digest": digest, "image_id": (self._folder / "image-id").read_text().strip()}

    def _pull(self, image: str) -> None:
        """Have a base image, and see that it brings nothing that is not allowed."""
        self._own_registry = ours = image.startswith(self._plan["registry"] + "/")
        command = [*self._podman(), "pull", "--quiet", *(self._tls() if ours else []), image]
        self._step("base", command, "base_failed", apart=not ours)
        inspect = [*self._podman(), "image", "inspect", "--format={{.Id}}", image]
        found = subprocess.run(inspect, check=False, capture_output=True, text=True, timeout=INSPECT_SECONDS)
        if found.returncode:
            raise StepFailed("base_failed", found.returncode)
        owner = base_images.Owner(self._plan["slug_label"], self._plan["slug"])
        base_images.check(image, found.stdout.strip(), Path(self._plan["image_folder"]), owner)

    def _podman(self) -> list[str]:
        runtime: str = self._plan["runtime"]
        return ["podman", "--cgroup-manager=cgroupfs", *(["--runtime", runtime] if runtime else [])]

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
        options += ["--pull=never", f"--signature-policy={self._folder / 'policy.json'}"]
        options += [f"--tag={plan['image']}", f"--file={self._folder / 'Dockerfile'}"]
        return [*self._podman(), "build", *options, str(tree / plan["context"])]

    def _push(self) -> None:
        command = [*self._podman(), "push", "--quiet", *self._tls(), f"--digestfile={self._folder / 'digest'}"]
        for pause in (*PUSH_PAUSES, None):
            try:
                self._step("push", [*command, self._plan["image"]], "push_failed")
                return
            except StepFailed:
                if pause is None or pushes.is_refusal(last_line(self._folder / "log")):
                    raise
                self._log.write(f"push failed, trying again in {pause} s\n".encode())
                time.sleep(pause)

    def _step(self, name: str, command: list[str], failure: str, *, apart: bool = False) -> None:
        """Run one command, `apart` behind the build's walls; a stop that was asked for while it ran ends the build."""
        self._failure = failure
        self._child = child = self._next(apart=apart)
        began = time.time()
        child.become(command)
        self._waiting = self._waiting or Step()
        self._log.copy(child.output, child.ended)
        os.close(child.output)
        code = child.wait()
        self._child = None
        self.timings[name] = self.timings.get(name, 0.0) + time.time() - began
        if self._stopping:
            raise BuildStopped
        if code:
            raise StepFailed(failure, code)

    def _next(self, *, apart: bool) -> Step:
        """A process for the next step, one that waits already if there is."""
        if apart and self._enclosed is not None:
            child, self._enclosed = self._enclosed, None
            return child
        child, self._waiting = self._waiting or Step(), None
        if apart:
            child.enclose((str(self.network.namespace), str(self._folder), resolver()))
        return child

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = "timeout" if number == signal.SIGALRM else "stopped"
        if self._child is None:
            raise BuildStopped
        # A killed RUN step makes Podman end by itself and clean up; in between steps it has to be told.
        self._cgroup.kill()
        self._child.signal(signal.SIGTERM)

    def _clean_up(self) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            self._child.wait()
        self._cgroup.kill()
        self._cgroup.remove()
        self.remove_files()
        if self._failure and not (self._folder / "digest").exists():
            self._remove_working_containers()

    def remove_files(self) -> None:
        """Remove what nobody needs beside the result."""
        for name in ("tree", "tmp"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

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
