"""Podman's configuration for one stack: everything it keeps lies below the stack's folder.

What the machine allows is detected, because Podman finds out only when the first container fails:
crun refuses hybrid cgroups, and without CAP_SYS_RESOURCE no limit may be set above the present one.
"""

from __future__ import annotations

import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path

Tables = dict[str, dict[str, str | list[str]]]

OVERLAY_CANNOT_STACK_ON = frozenset({"overlay", "overlayfs", "fuse.fuse-overlayfs", "aufs"})


@dataclass(frozen=True)
class Limits:
    """What containers can be given here. `nofile` and `nproc` are hard limits for `--ulimit`."""

    runtime: str
    cgroup_manager: str
    nofile: int
    nproc: int

    @property
    def ulimits(self) -> tuple[str, str]:
        """As `podman build --ulimit` and `default_ulimits` want them."""
        return f"nofile={self.nofile}:{self.nofile}", f"nproc={self.nproc}:{self.nproc}"


def mounts() -> list[tuple[str, str]]:
    """(mount point, file system type) of everything mounted that we see, in the order of mounting."""
    fields = (line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines())
    return [(point.encode().decode("unicode_escape"), kind) for _, point, kind, *_ in fields]


def file_system_of(path: Path) -> str:
    """The type of the file system on which `path` lies ("ext4", "overlay", …)."""
    above = [(len(point), kind) for point, kind in mounts() if path.is_relative_to(point)]
    return max(above, key=lambda found: found[0])[1]


def detect_limits() -> Limits:
    """What this machine lets containers have."""
    unified = ("/sys/fs/cgroup", "cgroup2") in mounts()
    systemd = unified and Path("/run/systemd/system").is_dir()
    return Limits(
        runtime="crun" if unified else "runc",
        cgroup_manager="systemd" if systemd else "cgroupfs",
        nofile=_hard(resource.RLIMIT_NOFILE, 1 << 20),
        # Podman lowers its own nproc to pid_max at start; what it runs cannot get more again.
        nproc=_hard(resource.RLIMIT_NPROC, int(Path("/proc/sys/kernel/pid_max").read_text())),
    )


def _hard(kind: int, most: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def engine_environment(folder: Path) -> dict[str, str]:
    """Variables that make any `podman` use the stack's engine instead of the machine's."""
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }


def write_engine_configuration(folder: Path, limits: Limits, registry: str, subnet_index: int) -> None:
    """Write the three configuration files into `folder` and make the folders they name.

    `registry` is host:port, spoken to in plain HTTP. `subnet_index` is 0 to 63: networks get their subnets
    from 10.(128 + index).0.0/16, because root's Podmans share one list of addresses in /run, and two
    stacks must not hand out the same.
    """
    engine = folder / "engine"
    for name in ("graph", "run", "tmp", "images", "networks"):
        (engine / name).mkdir(parents=True, exist_ok=True)
    second = 128 + subnet_index
    driver = "vfs" if file_system_of(folder) in OVERLAY_CANNOT_STACK_ON else "overlay"
    containers: Tables = {
        "containers": {"log_driver": "k8s-file", "default_ulimits": list(limits.ulimits)},
        "engine": {
            "runtime": limits.runtime,
            "cgroup_manager": limits.cgroup_manager,
            "events_logger": "file",
            "lock_type": "file",  # the default lies in /dev/shm, one for all of root's Podmans
            "tmp_dir": str(engine / "tmp"),
            "image_copy_tmp_dir": str(engine / "images"),
        },
        "network": {
            "network_backend": "netavark",
            "network_config_dir": str(engine / "networks"),
            "default_subnet": f"10.{second}.0.0/24",
        },
    }
    pools = f'default_subnet_pools = [{{base = "10.{second}.0.0/16", size = 24}}]\n'
    (folder / "containers.conf").write_text(_toml(containers) + pools)
    storage: Tables = {
        "storage": {"driver": driver, "graphroot": str(engine / "graph"), "runroot": str(engine / "run")}
    }
    (folder / "storage.conf").write_text(_toml(storage))
    registries = f'unqualified-search-registries = []\n\n[[registry]]\nlocation = "{registry}"\ninsecure = true\n'
    (folder / "registries.conf").write_text(registries)
    _write_policy(folder)


def _write_policy(folder: Path) -> None:
    # Podman reads it below HOME first: what the machine's own policy says does not matter to the stack.
    policy = folder / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))


def _toml(tables: Tables) -> str:
    # A JSON string or list of strings is valid TOML.
    lines: list[str] = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def networks_of(folder: Path) -> list[str]:
    """Names of the networks that were made in the stack's engine."""
    return sorted(path.stem for path in (folder / "engine" / "networks").glob("*.json"))


def is_overlay_root(mount_line: str, folder: Path) -> bool:
    """Whether a line of `/proc/<pid>/mountinfo` says that the process's root lies on a layer below `folder`."""
    fields = mount_line.split(" ")
    inside = os.fspath(folder) + os.sep
    return len(fields) > 5 and fields[4] == "/" and (inside in mount_line)
