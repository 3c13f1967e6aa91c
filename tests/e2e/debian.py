"""A Debian-with-Python base image, made on the spot out of this machine's own packages: nothing is pulled."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

PACKAGES = ("python3-venv", "git", "ca-certificates", "dash", "coreutils", "libc-bin", "libstdc++6")
LINKS = ("bin", "lib", "lib64", "sbin")


def base_archive(target: Path) -> Path:
    """Write an image's file system, for `podman import`: those packages, and what they depend on."""
    files = {_below_usr(path): path for name in sorted(_closure()) for path in _files(name)}
    with tarfile.open(target, "w") as archive:
        for name in LINKS:
            archive.add(f"/{name}", name, recursive=False)  # a link into /usr
        for inside, path in sorted(files.items()):
            archive.add(path, inside, recursive=False)
        for path in ("/etc/passwd", "/etc/group", "/etc/ssl/certs/ca-certificates.crt"):
            archive.add(path, path.removeprefix("/"))
        for name in {"tmp", "var/tmp"} - files.keys():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(folder)
    return target


def _closure() -> set[str]:
    """Those packages and all that they need, as far as it is installed."""
    found: set[str] = set()
    wanted = set(PACKAGES)
    while wanted:
        shown = "${Package}\t${Pre-Depends}, ${Depends}\n"
        told = _output("dpkg-query", "--show", f"--showformat={shown}", *sorted(wanted))
        found |= wanted
        needs = {
            choice.split("(")[0].split(":")[0].strip()
            for line in told.splitlines()
            for choice in line.partition("\t")[2].replace("|", ",").split(",")
        }
        wanted = {name for name in needs - found if name and _installed(name)}
    return found


def _installed(name: str) -> bool:
    shown = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return "installed" in subprocess.run(shown, capture_output=True, text=True, check=False).stdout.split()


def _files(package: str) -> list[str]:
    listed = _output("dpkg-query", "--listfiles", package).splitlines()
    kept = (path for path in listed if not path.startswith(("/usr/share/doc", "/usr/share/man", "/usr/share/locale")))
    return [path for path in kept if path not in {"/.", *(f"/{name}" for name in LINKS)} and Path(path).exists()]


def _below_usr(path: str) -> str:
    """Old packages list /lib/…, which is /usr/lib/… here."""
    inside = path.removeprefix("/")
    return f"usr/{inside}" if inside.split("/")[0] in LINKS else inside


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
