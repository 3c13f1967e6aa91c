"""Which programs the local stack needs, and which Debian package brings each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from provider.demo.processes import SEARCH_PATH, StackError

PACKAGES: Mapping[str, str] = {
    "nats-server": "nats-server",
    "docker-registry": "docker-registry",
    "podman": "podman",
    "runc": "runc",
    "crun": "crun",
    "conmon": "conmon",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
    "catatonit": "catatonit",
    "iptables": "iptables",
    "caddy": "caddy",
    "busybox": "busybox-static",
    "git": "git",
    "setpriv": "util-linux",
}


def missing_programs(search_path: str = SEARCH_PATH) -> dict[str, str]:
    """The programs that are not installed, each with its Debian package."""
    return {name: package for name, package in PACKAGES.items() if shutil.which(name, path=search_path) is None}


def check_machine(search_path: str = SEARCH_PATH) -> None:
    """Make sure that the stack can run here.

    Raises:
        StackError: one message with everything that is missing.
    """
    problems = []
    if missing := missing_programs(search_path):
        named = ", ".join(f"{name} (package {package})" for name, package in missing.items())
        packages = " ".join(sorted(set(missing.values())))
        problems.append(f"Not installed: {named}.\n  Install: apt-get install --no-install-recommends {packages}")
    if os.geteuid() != 0:
        problems.append("Not root: bridges and overlay mounts need it (netavark is used with root's network only).")
    if problems:
        raise StackError("\n".join(["The local stack cannot run here:", *(f"- {problem}" for problem in problems)]))
