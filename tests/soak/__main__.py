"""`python -m tests.soak`: the exit code is 1 if anything was lost, done twice or left behind."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.soak.engine import SHORT_ENGINE, EngineSize, engine_soak
from tests.soak.run import SHORT, Size, soak


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of an earlier run")
    parser.add_argument("--short", action="store_true", help="the size of `make test`")
    parser.add_argument("--keep", type=Path, help="keep logs in this folder")
    for name in ("providers", "deploys", "previews", "kills", "bus-restarts", "at-once"):
        parser.add_argument(f"--{name}", type=int, help=f"default: {getattr(Size(), name.replace('-', '_'))}")
    parser.add_argument("--engine", action="store_true", help="on this machine's container engine, much smaller")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 32)
    own = {name: value for name, value in vars(options).items() if hasattr(Size(), name) and value is not None}
    size: Size | EngineSize = replace(SHORT if options.short else Size(), **own)
    if options.engine:
        size = SHORT_ENGINE if options.short else EngineSize()
    print(f"seed {seed}: {size}", flush=True)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        kept = options.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        if isinstance(size, EngineSize):
            result = asyncio.run(engine_soak(kept, seed, size, say))
        else:
            result = asyncio.run(soak(kept, seed, size, say))
    print(result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
