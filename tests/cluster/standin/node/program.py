"""What runs in a container: an app that serves, or a build that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.cluster.standin.clock import Clock
from tests.cluster.standin.node.log import ContainerLog
from tests.cluster.standin.script import Answer, AppScript, Asked, BuildScript

OOM_CODE, TERMINATED_CODE, KILLED_CODE = 137, 143, 137


@dataclass(frozen=True)
class Exit:
    """How a container ended; `evicted` are the words with which the kubelet threw its pod out."""

    code: int
    reason: str = ""
    evicted: str = ""

    @property
    def told(self) -> str:
        """The reason that its state shows."""
        return self.reason or ("Completed" if self.code == 0 else "Error")


@dataclass
class Life:
    """One run of a container: what its process sees, and what it leaves behind; `calm` says that it waits for ever."""

    clock: Clock
    log: ContainerLog
    env: Mapping[str, str]
    args: tuple[str, ...]
    annotations: Mapping[str, str]
    restarts: int
    termination_path: str
    calm: Callable[[], None]
    termination_message: str = ""
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.elapsed()

    @property
    def age(self) -> float:
        """Seconds of the cluster since it started."""
        return self.clock.elapsed() - self.began


def scripted_end(script: BuildScript) -> Exit | None:
    """How somebody else ends a build, if the script says so: the kernel, or the kubelet."""
    if script.evicted:
        return Exit(KILLED_CODE, evicted=script.evicted)
    return Exit(OOM_CODE, "OOMKilled") if script.oom else None


class Program(Protocol):
    """A process; one that `serves` goes on for ever, and the world counts as settled while it does."""

    @property
    def stop_after(self) -> float:
        """Seconds from SIGTERM to its end."""

    @property
    def serves(self) -> bool:
        """Whether it goes on for ever."""

    async def run(self, life: Life) -> Exit:
        """Run until it ends by itself."""

    def listens(self, life: Life, port: int) -> bool:
        """Whether a connection to that port is taken."""

    def will_listen(self, life: Life) -> bool:
        """Whether it is only a matter of time until it serves."""

    async def answer(self, life: Life, asked: Asked) -> Answer:
        """Its answer to a request."""


class App:
    """Serves as its script says."""

    serves = True

    def __init__(self, script: AppScript) -> None:
        self.script = script
        self.stop_after = script.stop_after

    async def run(self, life: Life) -> Exit:
        """Print what it prints; end only if the script says so."""
        for line in self.script.log:
            life.log.write(line)
        crashes = self.script.crashes is None or life.restarts < self.script.crashes
        if not crashes or not (self.script.oom or self.script.crash is not None):
            await asyncio.Future()
        await life.clock.sleep(self.script.crash_after)
        return Exit(OOM_CODE, "OOMKilled") if self.script.oom else Exit(self.script.crash or 0)

    def listens(self, life: Life, port: int) -> bool:
        """After `ready_after`, on its port."""
        never = self.script.never_ready is True
        return not never and life.age >= self.script.ready_after and self.script.port in (None, port)

    def will_listen(self, life: Life) -> bool:
        """Until `ready_after` has passed."""
        return self.script.never_ready is False and life.age < self.script.ready_after

    async def answer(self, life: Life, asked: Asked) -> Answer:
        """What the script says; never, if it hangs."""
        if self.script.hang:
            await asyncio.Future()
        return self.script.answer(asked, life.age)


class Task:
    """What runs in a Job that is no build: it serves, fetches and pushes nothing, and ends as its script says."""

    stop_after = 0.0
    serves = False

    def __init__(self, script: BuildScript) -> None:
        self._script = script

    async def run(self, life: Life) -> Exit:
        """Take its time, print, and end."""
        for line in self._script.log:
            life.log.write(line)
        await life.clock.sleep(self._script.seconds)
        if self._script.hang:
            life.calm()
            await asyncio.Future()
        return scripted_end(self._script) or Exit(self._script.exit_code)

    def listens(self, life: Life, port: int) -> bool:
        """Never."""
        return False

    def will_listen(self, life: Life) -> bool:
        """Never."""
        return False

    async def answer(self, life: Life, asked: Asked) -> Answer:
        """Nobody can ask."""
        raise ConnectionRefusedError
