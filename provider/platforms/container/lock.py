"""One provider per engine and per state folder: two of them would undo each other's work."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path
from typing import TextIO

from provider.errors import Code, Permanent, Whose
from provider.settings import Settings

LOCKS = Path("/run/x1-preview")


def take_locks(settings: Settings) -> list[TextIO]:
    """Both locks, which are held until they are closed, or the process ends.

    Raises:
        Permanent: `conflict` when another provider has one.
    """
    state = settings.state_dir
    state.mkdir(parents=True, exist_ok=True, mode=0o711)
    state.chmod(state.stat().st_mode & 0o711)
    engine = hashlib.sha256(settings.container_host.encode()).hexdigest()[:16]
    LOCKS.mkdir(exist_ok=True)
    taken: list[TextIO] = []
    for path in (state / "lock", LOCKS / f"engine-{engine}.lock"):
        lock = path.open("w")
        taken.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for one in taken:
                one.close()
            raise Permanent(
                Code.CONFLICT,
                f"Another provider runs with this engine or state folder: {path} is locked.",
                reason="EngineLocked",
                hint="Stop it, or give this one a CONTAINER_HOST and a STATE_DIR of its own.",
                whose=Whose.PLATFORM,
            ) from None
    return taken
