"""A provider as a process: how long it takes to start, and how much memory it holds."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nats.errors import NoRespondersError

from provider.client import PreviewClient
from provider.demo.processes import Server


async def start_to_ready(provider: Server, client: PreviewClient) -> float:
    """Stop it, start it; seconds from the start of the process until it answers `list`."""
    await provider.stop()
    began = time.perf_counter()
    starting = asyncio.create_task(provider.start())
    subject = client.subjects.request("list")
    while True:
        try:
            await client.nats.request(subject, b"{}", timeout=5)
            break
        except NoRespondersError:
            await asyncio.sleep(0.002)
        except TimeoutError:
            continue  # it has much to look at first
    seconds = time.perf_counter() - began
    await starting
    return seconds


def peak(pid: int) -> float:
    """The most resident MB (10⁶ bytes) that a process has ever had."""
    return _status(pid, "VmHWM")


def resident(pid: int) -> dict[str, float]:
    """Resident MB (10⁶ bytes) of a process and of all that descend from it, by name."""
    found: dict[str, float] = {}
    for one in (pid, *_descendants(pid)):
        name = Path(f"/proc/{one}/comm").read_text().strip()
        found[f"{name} {one}"] = _status(one, "VmRSS")
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its children that have ended have taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _status(pid: int, field: str) -> float:
    status = dict(line.partition(":")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status.get(field, "0 kB").split()[0]) * 1024 / 1e6
