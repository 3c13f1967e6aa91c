"""What is read of a container that does not get ready: its exits, and what the kernel did to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provider.platforms.container.readiness import Exits, memory_group, out_of_memory


def seen(status: str, restarts: int, code: int = 0) -> dict[str, Any]:
    return {"State": {"Status": status, "ExitCode": code}, "RestartCount": restarts}


def test_exits_are_counted_whether_the_container_is_seen_up_or_down() -> None:
    exits = Exits()
    for container in (seen("running", 0), seen("exited", 0, 3), seen("running", 1), seen("running", 2)):
        exits.look(container)
    assert (exits.count, exits.code) == (2, 3)


def test_restarts_of_long_ago_are_no_exits_of_now() -> None:
    exits = Exits()
    exits.look(seen("running", 7))
    assert exits.count == 0
    exits.look(seen("running", 8))
    assert exits.count == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 91\noom 4\noom_kill 2\noom_group_kill 0\n", True),
        ("memory.events", "low 0\nhigh 0\nmax 91\noom 0\noom_kill 0\noom_group_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", False),
        ("cgroup.procs", "1\n", False),
    ],
)
def test_the_kernels_counter(tmp_path: Path, name: str, text: str, expected: bool) -> None:
    (tmp_path / name).write_text(text)
    assert out_of_memory(tmp_path) is expected


def test_the_group_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("5:pids:/a\n4:cpu,memory:/libpod_parent/libpod-1\n0::/\n")
    assert memory_group(7, tmp_path) == Path("/sys/fs/cgroup/memory/libpod_parent/libpod-1")
    assert memory_group(8, tmp_path) is None
