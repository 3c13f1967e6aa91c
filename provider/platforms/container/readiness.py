"""Whether a container gets ready, and if not, why: it crashes, lacks memory, listens elsewhere, answers badly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from provider.diagnose import rollouts
from provider.errors import PreviewError
from provider.models import LOG_TAIL_LINES
from provider.platforms.container import probes
from provider.platforms.container.engine import Engine
from provider.platforms.container.workload import Workload

CRASHES = 3
FIRST_LOOK = 0.02
"""Seconds until the container is looked at: most apps are ready by then, and to look takes the engine as long."""
LOOK_SECONDS = 0.1
MEMORY_LOOKS = 5
"""How often the kernel's counter is looked at between two looks at the container."""
MOST_IDLE_LOOKS = 8
KILLED = 137
CGROUPS = Path("/sys/fs/cgroup")


class Readiness:
    """Waits for one container.

    Args:
        engine: where it runs.
        name: its name.
        work: what it runs.
        address: its IPv4 address.
        most: most seconds to wait, whatever its probes allow.
    """

    def __init__(self, engine: Engine, name: str, work: Workload, *, address: str, most: float) -> None:
        self._engine = engine
        self._name = name
        self._work = work
        self._prober = probes.Prober(address, work)
        self._budget = min(probes.startup_budget(work), most)
        self._exits = Exits()
        self._memory: Path | None = None
        self._out_of_memory = False

    async def wait(self) -> None:
        """Return when the app answers its probe.

        Raises:
            Permanent: `deployment_not_ready` when it crashes again and again or never gets ready.
        """
        ready = asyncio.create_task(self._prober.until_ready())
        crashed = asyncio.create_task(self._until_crash_loop())
        try:
            done, _ = await asyncio.wait({ready, crashed}, timeout=self._budget, return_when=asyncio.FIRST_COMPLETED)
            if ready in done:
                ready.result()
                return
            if crashed in done:
                crashed.result()
            ended = self._exits.count or self._out_of_memory
            raise await (self._crash_error() if ended else self._never_ready())
        finally:
            for task in (ready, crashed):
                task.cancel()
            await asyncio.gather(ready, crashed, return_exceptions=True)

    async def _until_crash_loop(self) -> None:
        """Count the container's exits; return at the third.

        The engine starts it again within milliseconds, so its `wait` never sees it stopped: the number of restarts
        is looked at instead.
        """
        await asyncio.sleep(FIRST_LOOK)
        while self._exits.count < CRASHES:
            container = await self._engine.container(self._name)
            if container is not None:
                self._exits.look(container)
                self._memory = memory_group(int(container["State"].get("Pid") or 0)) or self._memory
                if self._exits.idle_looks > MOST_IDLE_LOOKS:  # restarting it is the engine's work, but it did not
                    await self._engine.start(self._name)
            for _ in range(MEMORY_LOOKS):
                self._out_of_memory |= self._memory is not None and out_of_memory(self._memory)
                await asyncio.sleep(LOOK_SECONDS / MEMORY_LOOKS)

    async def _crash_error(self) -> PreviewError:
        codes = await self._engine.exit_codes(self._name)
        code = codes[-1] if codes else self._exits.code
        tail = await self._engine.log(self._name, LOG_TAIL_LINES)
        app = self._app(log=tail, exits=self._exits.count, exit_code=code, oom=self._out_of_memory or code == KILLED)
        return rollouts.crashed(app).error(tail)

    async def _never_ready(self) -> PreviewError:
        container = await self._engine.container(self._name) or {"State": {}}
        tail = await self._engine.log(self._name, LOG_TAIL_LINES)
        sockets = probes.listening(int(container["State"].get("Pid") or 0))
        app = self._app(log=tail, probe=self._prober.last, seconds=self._budget, sockets=sockets)
        return rollouts.unready(app).error(tail)

    def _app(self, **seen: Any) -> rollouts.App:
        probe = self._work.startup or self._work.readiness
        return rollouts.App(
            port=self._work.port,
            path=probe.path or "",
            timeout=probe.timeout,
            memory=str(self._work.container["resources"]["limits"]["memory"]),
            **seen,
        )


class Exits:
    """How often a container has exited since it was first looked at, and the code with which it was last seen down."""

    def __init__(self) -> None:
        self.count = 0
        self.code = 0
        self.idle_looks = 0
        self._first: int | None = None

    def look(self, container: dict[str, Any]) -> None:
        """Take in what the engine says of the container now."""
        state = container["State"]
        down = state["Status"] in {"stopped", "exited"}
        restarts = int(container.get("RestartCount") or 0)
        if self._first is None:  # one that serves already may have been restarted long ago
            self._first = 0 if down else restarts
        self.count = max(self.count, restarts - self._first + down)
        self.idle_looks = self.idle_looks + 1 if down else 0
        if down:
            self.code = int(state["ExitCode"])


def memory_group(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """The control group that bounds a process's memory; None when there is no such process.

    Podman 4.3 never says `OOMKilled` where control groups are of version 1, and forgets what it says at the restart.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return CGROUPS / "memory" / path.lstrip("/")
        if not controllers and (CGROUPS / "cgroup.controllers").exists():
            return CGROUPS / path.lstrip("/")
    return None


def out_of_memory(group: Path) -> bool:
    """Whether the kernel has ended a process of the group for want of memory; the group ends with its container."""
    for name in ("memory.events", "memory.oom_control"):  # versions 2 and 1
        try:
            counters = (group / name).read_text().split()
        except OSError:
            continue
        return int(dict(zip(counters[::2], counters[1::2], strict=False)).get("oom_kill", "0")) > 0
    return False
