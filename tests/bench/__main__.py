"""`make bench`: how fast the provider is, on the real engine and on a stand-in for a Kubernetes cluster.

    python -m tests.bench [--json] [--quick] [--only NAME]

Ends with 0 when every target is met, with 1 when one is missed. All of it is measured in one run, on one stack,
and what is compared is measured in turns, so that a busy machine slows both sides down. What is measured:

push → verified / bare engine
    From the commit being there until `deploy` has answered, by the asker's clock, for one slug again and again:
    credentials, git fetch over HTTP, build, push, container, checks of the candidate, traffic switched, checks of
    the public URL over TLS, records. Divided by the bare calls (`bare.py`): `podman build`, `podman push`,
    `podman run`, first 200. Same Dockerfile and context; each time other content, so nothing but the base image
    comes from a cache, on either side. The median of the pairs' ratios.

the provider's own share
    The same deploys' time without the engine's, each by timestamps of that very deploy: minus the builder's `podman
    build`, `push` and `pull` (each from the program's exec to its end, as the builder wrote it down), minus the
    container's way from `Created` to `StartedAt` as the engine reports them, minus the median time that the bare app
    takes from `StartedAt` to its first 200. All else counts as the provider's: NATS and the records in it, the git
    host and git's processes, the builder's own start, walls and clean-up, the build's network and control group, the
    registry's and Caddy's answers, all calls of the engine's API beside creating and starting (and of creating what
    comes before the engine says `Created`, some 8 ms), the probes' and checks' requests with the app's time to answer
    them, and every pause. What of it the git host works, by its own clock, and what the app takes to answer the three
    checks, as the bare app answers, is shown beside; neither is taken off.

the same commit again
    `deploy` of the sha that serves already: nothing is built and nothing restarted, but it is checked again.

20 slugs at once
    From the first request to the last answer, for repositories that the provider has never seen, divided by as
    many bare pipelines at once. In one of two rounds the bare ones go first.

start to ready, idle memory
    From the start of the process (its .pyc files are there) to the answer of `list`; resident memory of the
    provider and of all its children, some seconds later, before the first deploy.

on Kubernetes
    The provider as a process of its own, and so the stand-in of tests/cluster, whose clock runs as ours does: an idle
    node's delays. Builds do nothing for a fixed time. The own share is the time from request to reply by the asker's
    clock, minus what the stand-in saw: from the commit of the build's Job to the end of its container (not to the
    Job's verdict), and from the commit of the Deployment until its rollout is complete and the ingress leads there
    (it is told 100 ms late, which no provider can make shorter; the share with that lag in it is shown beside). All
    else counts as the provider's: the bus, git and its host, the answers of the registry, the API server, the ingress.

    Two rows below tell what the stand-in took, by its own clock. One has the seconds from a request's head to its
    answer, of all requests of a deploy, for which nothing is taken off: four of them are under way at once, one is
    beside the build. The other is the ingress's lag: from the complete rollout until the ingress leads to it.

    1 in flight: first deploys of new repositories. Among them deploys by the model of the present provider
    (`present.py`); off its time goes the Job's verdict, too, for which it waits: what is left is its polling.
    50 in flight: 50 askers, each asking for another first deploy as soon as the one before is answered; they begin
    spread over the time that a build takes here (15 s), so that deploys end as they come, some three a second, and
    not in one moment, in which two CPUs would be shared by the stand-in, git, and us.

at scale
    1,000 previews at rest (copies of one: `scale.py`) and 200 deploys under way beside them, on one provider: CPU at
    rest, the state's size, watches, memory, records written a deploy; and the time in which another provider goes on
    with all of them when the first is killed (SIGKILL), from the kill to the last "deploy.resumed" in its log.

followers
    A build on the engine says 100,000 lines. How many a second come to a follower, from its first to its last number,
    as they are built; how much the provider's memory grows by that; and its CPU time from the build's beginning to its
    end when 50 follow it (over a connection each), divided by that when one does: what the build itself costs the
    provider is in both. What it costs to follow what is kept afterwards stands beside it.

events
    The own share of first deploys on Kubernetes, 1 in flight, minus that by a provider which tells no events
    (`events.py`); in turns, by medians.

page
    The dashboard's list of 1,000 previews in Chromium, over HTTP from the provider's own server (in this process, its
    store in memory): from the navigation until all rows are painted, the filter listens and changes are followed.

before
    The own share at 50 in flight, divided by that of the provider as it was before leases, the line, claims and
    reconciliation (`before.py`); needs this repository's history.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from rich.console import Console

from provider.demo.processes import cancelled_by_signals
from provider.demo.world import local_world
from tests.bench import before, cases, cluster, events, followers, page, scale
from tests.bench.report import Row, as_json, print_table

ON_THE_ENGINE = ("start", "push", "same", "parallel")
ON_KUBERNETES = "kubernetes"
AT_SCALE = "scale"
FOLLOWERS = "followers"
EVENTS = "events"
PAGE = "page"
BEFORE = "before"
NAMES = (*ON_THE_ENGINE, FOLLOWERS, ON_KUBERNETES, EVENTS, AT_SCALE, PAGE, BEFORE)


def main() -> int:
    """Measure, print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the provider.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--only", choices=NAMES, action="append", help="measure only this; can be repeated")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows = asyncio.run(measure(options.only or NAMES, quick=options.quick))
    load = (load_before, os.getloadavg()[0])
    if options.json:
        sys.stdout.write(json.dumps(as_json(rows, load), indent=2) + "\n")
    else:
        print_table(rows, load, Console(width=max(120, Console().width)))
    return 0 if all(row.ok for row in rows) else 1


async def measure(chosen: Sequence[str], *, quick: bool) -> list[Row]:
    """Take the chosen measurements, one after the other."""
    rows: list[Row] = []
    async with cancelled_by_signals():
        on_the_engine = [name for name in ON_THE_ENGINE if name in chosen]
        if on_the_engine:
            rows += await measure_engine(on_the_engine, cases.QUICK if quick else cases.FULL)
        if FOLLOWERS in chosen:
            sys.stderr.write(f"measuring: {FOLLOWERS}\n")
            async with local_world() as world:
                rows += await followers.FollowerBench(world, **({"many": 10, "rounds": 1} if quick else {})).rows()
        if EVENTS in chosen:
            sys.stderr.write(f"measuring: {EVENTS}\n")
            rows += await (events.rows(deploys=6) if quick else events.rows())
        if ON_KUBERNETES in chosen:
            sys.stderr.write(f"measuring: {ON_KUBERNETES}\n")
            async with cluster.stand_in_world() as stand_in:
                rows += await cluster.ClusterBench(stand_in, cluster.QUICK if quick else cluster.FULL).rows()
        if AT_SCALE in chosen:
            sys.stderr.write(f"measuring: {AT_SCALE}\n")
            rows += await measure_scale(quick=quick)
        if PAGE in chosen:
            sys.stderr.write(f"measuring: {PAGE}\n")
            rows += await page.rows(quick=quick)
        if BEFORE in chosen:
            sys.stderr.write(f"measuring: {BEFORE}\n")
            rows += await (before.rows(rounds=1, at_once=10, size=cluster.QUICK) if quick else before.rows())
    return rows


async def measure_scale(*, quick: bool) -> list[Row]:
    """Many previews and deploys beside each other, on a stand-in of their own."""
    async with cluster.stand_in_world() as stand_in:
        fewer = {"at_rest": 100, "in_flight": 30} if quick else {}
        return await scale.ScaleBench(stand_in.world, stand_in.figures, **fewer).rows()


async def measure_engine(chosen: Sequence[str], size: cases.Size) -> list[Row]:
    """Those on the container engine, in one world."""
    rows: list[Row] = []
    async with local_world() as world:
        every = cases.Bench(world, size).cases()
        for name in chosen:
            sys.stderr.write(f"measuring: {name}\n")
            rows += await every[name]()
    return rows


if __name__ == "__main__":
    sys.exit(main())
