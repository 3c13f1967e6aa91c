"""The network of one build. Only the standard library: the builder uses it."""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path
from typing import TextIO

from provider.platforms.container import firewall

POOL = "10.124.{}.0/24"
POOL_FOLDER = Path("/run/x1-preview-builds")
"""Subnets are numbered for the whole machine, whatever state folder a provider has."""
POOL_SIZE = 250
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class NoNetworkLeft(Exception):
    """Every number of the pool is taken."""


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
        """Take a number, make the namespace, connect it.

        Raises:
            NoNetworkLeft: when too many builds run.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if not any(self._take(number) for number in range(POOL_SIZE)):
            raise NoNetworkLeft
        self.remove()
        self.namespace.touch()
        subprocess.run(["unshare", f"--net={self.namespace}", "true"], check=True, capture_output=True)
        firewall.ensure()
        self._call("setup")
        self.ready = True

    def remove(self) -> None:
        """Disconnect and remove the namespace; also what a killed build left under this number."""
        if self.namespace.exists():
            self._call("teardown", check=False)
            subprocess.run(["umount", "--lazy", str(self.namespace)], check=False, capture_output=True)
            self.namespace.unlink(missing_ok=True)

    def remove_abandoned(self, number: int) -> None:
        """Remove the namespace of a number that no build has any more."""
        if self._take(number):
            self.remove()
            self.let_go()

    def let_go(self) -> None:
        """Give the number back; a builder's goes by itself with its process."""
        if self._lock is not None:
            self._lock.close()

    def _take(self, number: int) -> bool:
        lock = (self._folder / f"{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock, self._number = lock, number
        self.namespace = self._folder / f"netns-{number}"
        return True

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


def sweep(netavark: str, folder: Path = POOL_FOLDER) -> None:
    """Remove the networks that killed builders left."""
    for path in folder.glob("netns-*"):
        Network(folder, netavark).remove_abandoned(int(path.name.removeprefix("netns-")))


def resolver(candidates: tuple[Path, ...] = RESOLVERS) -> str:
    """The resolv.conf that works in a build's network, "" for the machine's own.

    A name server on the host's loopback cannot be reached from there; systemd-resolved says whom it asks itself.
    """
    for path in candidates:
        if path.exists() and _reachable(path.read_text(errors="replace")):
            return "" if path == candidates[0] else str(path)
    return ""


def _reachable(text: str) -> bool:
    words = [line.split() for line in text.splitlines()]
    servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return any(not server.startswith("127.") and server != "::1" for server in servers)
