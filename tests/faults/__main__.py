"""`python -m tests.faults`: every fault, what it was told as, and the score; the exit code is 1 under full score."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.faults.report import score, table
from tests.faults.run import catalogue


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="only faults whose names hold this, or one of these: npm,pip")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        outcomes = asyncio.run(catalogue(Path(folder), options.only))
    print(table(outcomes))
    print(f"{score(outcomes)}, in {time.monotonic() - began:.0f} s")
    return 0 if outcomes and not any(one.wrong for one in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
