"""python -m tests.cluster.differential: the stand-in against KUBECONFIG's server, or without one against saved answers.

Exits 1 when something is different that nobody accepted. `--save` keeps the live server's answers for the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.cluster.differential.compare import compare
from tests.cluster.differential.known import KNOWN
from tests.cluster.differential.report import report
from tests.cluster.differential.run import run
from tests.cluster.differential.saved import load, save
from tests.cluster.differential.scenarios import SCENARIOS
from tests.cluster.differential.standin import standin
from tests.cluster.differential.steps import Json, Scenario
from tests.cluster.differential.target import connect


def main() -> int:
    options = _options()
    scenarios = [one for one in SCENARIOS if fnmatchcase(one.name, options.only)]
    kubeconfig = os.environ.get("KUBECONFIG")
    server, real = asyncio.run(_real(Path(kubeconfig), scenarios)) if kubeconfig else load()
    if options.save:
        save(server, real)
    ours = asyncio.run(_ours(scenarios))
    if missing := ours.keys() - real.keys():
        sys.exit(f"ask a live server (KUBECONFIG) and --save its answers; not saved yet: {', '.join(sorted(missing))}")
    comparisons = [compare(step, answer, real[step], KNOWN) for step, answer in ours.items()]
    print(f"the stand-in and {server}{'' if kubeconfig else ' (saved)'}")
    for line in report(comparisons, KNOWN, wording=options.wording):
        print(line)
    return 1 if any(one.verdict == "different" for one in comparisons) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.differential", description=__doc__)
    parser.add_argument("--only", default="*", metavar="SCENARIO", help="a shell pattern")
    parser.add_argument("--wording", action="store_true", help="show sentences that differ too")
    parser.add_argument("--save", action="store_true", help="keep the live server's answers for the tests")
    options = parser.parse_args()
    if options.save and (options.only != "*" or "KUBECONFIG" not in os.environ):
        parser.error("--save needs KUBECONFIG, and all scenarios")
    return options


async def _real(kubeconfig: Path, scenarios: Sequence[Scenario]) -> tuple[str, dict[str, Json]]:
    async with connect(kubeconfig) as target:
        version = await target.send("GET", "/version")
        return f"Kubernetes {version.body['gitVersion']}", await run(target, scenarios)


async def _ours(scenarios: Sequence[Scenario]) -> dict[str, Json]:
    async with standin() as target:
        return await run(target, scenarios)


if __name__ == "__main__":
    sys.exit(main())
