"""What this machine offers to builds, and what it lacks.

`podman build` takes neither the OCI runtime nor the limits of processes and files from containers.conf, so
a build is told. crun refuses hybrid cgroups; without CAP_SYS_RESOURCE no limit may be set above our own.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import structlog

from provider.platforms.base import PartStatus
from provider.platforms.container import firewall

log = structlog.get_logger(__name__)

CGROUPS = Path("/sys/fs/cgroup")
NETAVARK_FOLDERS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman")
PROGRAMS = {"podman": "podman", "unshare": "util-linux", "iptables": "iptables", "git": "git"}


def unified_cgroups() -> bool:
    """Whether control groups are of version 2 alone."""
    return (CGROUPS / "cgroup.controllers").exists()


def oci_runtime() -> str:
    """The OCI runtime for builds; "" leaves it to Podman."""
    return "" if unified_cgroups() else "runc"


def netavark() -> str:
    """Podman's network program; "" when there is none."""
    return shutil.which("netavark", path=os.pathsep.join(NETAVARK_FOLDERS)) or ""


def ulimits() -> list[str]:
    """Limits for `--ulimit`: no higher than our own hard ones, and than what Podman lowers itself to."""
    files = _hard(resource.RLIMIT_NOFILE, 1 << 20)
    processes = _hard(resource.RLIMIT_NPROC, int(Path("/proc/sys/kernel/pid_max").read_text()))
    return [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]


def _hard(kind: int, most: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def keep_apart() -> None:
    """What serves already is kept apart at once; where that cannot be, each deploy fails with the cause."""
    try:
        firewall.ensure()
    except (OSError, subprocess.SubprocessError) as error:
        log.error("firewall.missing", error=str(error), hint="previews and builds can reach this machine's services")


def builder_part() -> PartStatus:
    """Whether builds can run here."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not netavark():
        missing.append("netavark")
    if missing:
        return PartStatus("builder", False, f"missing: {', '.join(missing)}", f"apt install {' '.join(missing)}")
    if os.geteuid() != 0:
        return PartStatus(
            "builder", False, "not root", "builds make network namespaces and control groups: run as root"
        )
    return PartStatus("builder", True, f"podman build, {oci_runtime() or 'default runtime'}")


def firewall_part() -> PartStatus:
    """Whether previews and builds are kept from each other and from this machine."""
    lacking = firewall.lacking()
    hint = "the provider sets the rules when it starts: is iptables installed, and does it run as root?"
    return PartStatus("firewall", not lacking, lacking or "previews and builds are kept apart", hint if lacking else "")


def state_part(folder: Path) -> PartStatus:
    """Whether there is room for builds and caches."""
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    detail = f"{folder}, {free // (1 << 20)} MiB free"
    return PartStatus("state", free > 1 << 30, detail, "free some space, or move STATE_DIR")
