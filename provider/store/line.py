"""Every way in which the line changes: pure, and the same when repeated.

Each of the first functions returns a change of the line's record. After any of them `grant` gives the turns that
are free then, so whoever's write frees a place also says who gets it.

Two limits count what runs: deploys at once (a build is part of its deploy), and builds among them, in all and for
each repository. Who waits for a build gives its place among the deploys back: else one repository's builds would
keep everybody from deploying. Turns go to the repository with the fewest running, then to the oldest. Nobody
starves by that: a deploy is passed over only for repositories with fewer running, and once its own have ended there
are none.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from provider.errors import Code, Temporary
from provider.models import LineRecord, Stage, Ticket

RUNNING = frozenset({Stage.DEPLOYING, Stage.BUILDING})
QUEUED = frozenset({Stage.WAITING, Stage.BUILD_WAITING})
SECONDS_PER_DEPLOY = 15.0
"""A guess at how long one deploy keeps its place, for those who are sent away."""
SHORTEST_RETRY, LONGEST_RETRY = 5.0, 300.0

Change = Callable[[LineRecord], LineRecord]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many deploys run at once, how many of them build, in all and per repository, and how many may wait."""

    deploys: int
    builds: int
    builds_per_repository: int
    queue: int


# ------------------------------------------------------------------------------ changes


def entered(ticket: Ticket) -> Change:
    """The deploy stands in the line; one that is there keeps its place, and is the given instance's from now on.

    One that says it runs (it was taken over in the middle) is believed.
    """

    def change(line: LineRecord) -> LineRecord:
        present = _find(line, ticket.deploy_id)
        if present is None:
            return _with(line, (*line.tickets, ticket))
        stage = present.stage if ticket.stage is Stage.WAITING else ticket.stage
        return _replaced(line, present.model_copy(update={"instance": ticket.instance, "stage": stage}))

    return change


def reserved(ticket: Ticket, limits: Limits) -> Change:
    """A place for a deploy that has no record yet, behind everybody that is there. Raises `queue_full`."""

    def change(line: LineRecord) -> LineRecord:
        if _find(line, ticket.deploy_id) is not None:
            return line
        waiting = queued(line, limits)
        if waiting >= limits.queue:
            raise queue_full(waiting, limits)
        order = 1 + max((other.order for other in line.tickets), default=0)
        return _with(line, (*line.tickets, ticket.model_copy(update={"order": order})))

    return change


def wants_build(deploy_id: str) -> Change:
    """A deploy whose turn it is waits for a build of its own."""
    return _moved(deploy_id, Stage.DEPLOYING, Stage.BUILD_WAITING)


def built(deploy_id: str) -> Change:
    """The deploy's build has ended, well or badly, or is not needed after all; the deploy goes on."""
    return _moved(deploy_id, Stage.BUILDING, Stage.DEPLOYING)


def left(deploy_ids: Collection[str]) -> Change:
    """Deploys that are over, or not to be run, stand in the line no more."""
    return lambda line: _with(line, tuple(one for one in line.tickets if one.deploy_id not in deploy_ids))


def grant(line: LineRecord, limits: Limits) -> LineRecord:
    """Give the turns that are free; builds first, since their deploys came first."""
    building = Counter(one.repo for one in line.tickets if one.stage is Stage.BUILDING)
    running = Counter(one.repo for one in line.tickets if one.stage in RUNNING)
    turns: dict[str, Stage] = {}
    for ticket in _fair(line, Stage.BUILD_WAITING, building):
        if building.total() >= limits.builds or running.total() >= limits.deploys:
            break
        if building[ticket.repo] < limits.builds_per_repository:
            turns[ticket.deploy_id] = Stage.BUILDING
            building[ticket.repo] += 1
            running[ticket.repo] += 1
    for ticket in _fair(line, Stage.WAITING, running):
        if running.total() >= limits.deploys:
            break
        turns[ticket.deploy_id] = Stage.DEPLOYING
        running[ticket.repo] += 1
    if not turns:
        return line
    return _with(line, tuple(_at(one, turns.get(one.deploy_id, one.stage)) for one in line.tickets))


# ------------------------------------------------------------------------------ looking


def queued(line: LineRecord, limits: Limits) -> int:
    """How many wait, but for those who get their turn with the next `grant`."""
    stages = Counter(one.stage for one in line.tickets)
    room = max(0, limits.deploys - sum(stages[stage] for stage in RUNNING))
    return max(0, stages[Stage.WAITING] - room) + stages[Stage.BUILD_WAITING]


def positions(line: LineRecord) -> dict[str, tuple[int, int]]:
    """By deploy id, for everybody who waits: its position from 1, and how many wait for the same."""
    found: dict[str, tuple[int, int]] = {}
    for waits, runs in ((Stage.WAITING, RUNNING), (Stage.BUILD_WAITING, {Stage.BUILDING})):
        running = Counter(one.repo for one in line.tickets if one.stage in runs)
        fair = list(_fair(line, waits, running))
        found |= {ticket.deploy_id: (number, len(fair)) for number, ticket in enumerate(fair, 1)}
    return found


def queue_full(waiting: int, limits: Limits) -> Temporary:
    """The answer to a request that the line has no room for; its `delay` is when to ask again."""
    guess = math.ceil(waiting * SECONDS_PER_DEPLOY / limits.deploys)
    after = min(LONGEST_RETRY, max(SHORTEST_RETRY, float(guess)))
    return Temporary(
        Code.QUEUE_FULL,
        f"{waiting} deploys wait already; no more are taken for now.",
        reason="QueueFull",
        hint=f"Ask again in {after:.0f} s, with the same deploy_id.",
        evidence=(f"retry_after_seconds {after:.0f}", f"waiting {waiting}", f"QUEUE_LENGTH {limits.queue}"),
        delay=after,
    )


# -------------------------------------------------------------------------------- parts


def _fair(line: LineRecord, stage: Stage, running: Counter[str]) -> Iterator[Ticket]:
    """Those who wait in that stage, in the order of their turns if nobody who runs ends meanwhile."""
    queues: dict[str, deque[Ticket]] = defaultdict(deque)
    for ticket in sorted((one for one in line.tickets if one.stage is stage), key=lambda one: one.order):
        queues[ticket.repo].append(ticket)
    heap = [(running[repo], queue[0].order, repo) for repo, queue in queues.items()]
    heapq.heapify(heap)
    while heap:
        ahead, _, repo = heapq.heappop(heap)
        queue = queues[repo]
        yield queue.popleft()
        if queue:
            heapq.heappush(heap, (ahead + 1, queue[0].order, repo))


def _moved(deploy_id: str, before: Stage, after: Stage) -> Change:
    def change(line: LineRecord) -> LineRecord:
        present = _find(line, deploy_id)
        return line if present is None or present.stage is not before else _replaced(line, _at(present, after))

    return change


def _find(line: LineRecord, deploy_id: str) -> Ticket | None:
    return next((one for one in line.tickets if one.deploy_id == deploy_id), None)


def _at(ticket: Ticket, stage: Stage) -> Ticket:
    return ticket if ticket.stage is stage else ticket.model_copy(update={"stage": stage})


def _replaced(line: LineRecord, ticket: Ticket) -> LineRecord:
    return _with(line, (ticket if one.deploy_id == ticket.deploy_id else one for one in line.tickets))


def _with(line: LineRecord, tickets: Iterable[Ticket]) -> LineRecord:
    return line.model_copy(update={"tickets": tuple(tickets)})
