"""The four steps of the demo, told by an orchestrator that uses nothing but the bus and the public URL.

Each step checks what it claims: by the reply, and by looking at the page itself over TLS. A step that did not
do what it should is reported as such, and the next one goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from provider.client import ClientError, Deployed
from provider.demo.load import SteadyLoad, describe
from provider.demo.processes import StackError
from provider.demo.sample_app import (
    BROKEN_LOG,
    BROKEN_MESSAGE,
    NAME,
    UNHEALTHY_LOG,
    UNHEALTHY_MESSAGE,
    broken_build_files,
    never_healthy_files,
    sample_files,
)
from provider.demo.screen import seconds_text
from provider.demo.story_tale import Reply, Report, Tale

FIRST_MESSAGE = "Say hello"
FIRST_STORY = """An orchestrator asked over NATS for this commit. The provider read its preview.yaml, built its \
Dockerfile, started the container in a network of its own, and gave it this address.

The answer went out only after this very page was seen here, over TLS."""
SECOND_MESSAGE = "Say it in green, without a pause"
SECOND_STORY = """This commit took the place of the first one while visitors kept asking for the page. The \
terminal has the count of those who saw an error: it should be 0.

The new container was asked directly before it got any traffic; the old one went only after that."""
SECOND_ACCENT = "#12a594"
CALM_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Expected:
    """How a commit must fail: in words, code, phase, and what its log says (in the last `log_lines`)."""

    text: str
    code: str
    phase: str
    log: str
    log_lines: int


BUILD_FAILS = Expected("its build fails", "kaniko_build_failed", "build", BROKEN_LOG, 5)
NEVER_HEALTHY = Expected("it never gets healthy", "deployment_not_ready", "rollout", UNHEALTHY_LOG, 2)


async def first_commit(tale: Tale, report: Report) -> None:
    """The first commit becomes an address."""
    files = sample_files(tale.world.base_image, commit_message=FIRST_MESSAGE, story=FIRST_STORY)
    tale.first = await tale.push(FIRST_MESSAGE, files)
    reply = await tale.deploy(report, tale.first, FIRST_MESSAGE, explained=True)
    tale.check_up(report, reply, tale.first, f"Up and verified after {_took(report)}")
    if isinstance(reply, Deployed):
        tale.url = reply.url
        tale.screen.fields([("url", reply.url), ("image", reply.image), ("digest", f"{reply.digest[:19]}…")])
    asked = tale.world.api.asked_for[:1] == [str(tale.world.installation_id)]
    tale.check(report, asked, "Cloned with credentials minted for this installation alone")
    await tale.check_page(report, {tale.first: FIRST_MESSAGE}, "The page over TLS names this commit and its message")


async def under_load(tale: Tale, report: Report) -> None:
    """The second commit replaces the first while visitors keep asking."""
    first = {tale.first: FIRST_MESSAGE}
    load = SteadyLoad(tale.visitor, first)
    async with load.running() as tally:
        await asyncio.sleep(CALM_SECONDS)
        base = tale.world.base_image
        files = sample_files(base, commit_message=SECOND_MESSAGE, story=SECOND_STORY, accent=SECOND_ACCENT)
        tale.second = await tale.push(SECOND_MESSAGE, files)
        load.expect(first | _second(tale))
        reply = await tale.deploy(
            report, tale.second, SECOND_MESSAGE, footer=lambda: f"{tally.made} requests, {tally.failed} failed"
        )
        load.expect(_second(tale))  # who comes after the answer must not see the first commit any more
        await asyncio.sleep(CALM_SECONDS)
    tale.check_up(report, reply, tale.second, f"Up and verified after {_took(report)}")
    _judge_load(tale, report, load)
    await tale.check_page(report, _second(tale), "The page names the second commit")


def _judge_load(tale: Tale, report: Report, load: SteadyLoad) -> None:
    tally = load.tally
    old, new = tally.by_commit[tale.first], tally.by_commit[tale.second]
    report.facts["load"] = {
        "clients": load.clients,
        "requests": tally.made,
        "failed": tally.failed,
        "old": old,
        "new": new,
        "slowest_ms": round(tally.slowest * 1000),
        "problems": tally.problems,
    }
    text = f"{tally.made} requests by {load.clients} visitors meanwhile, {tally.failed} failed"
    tale.check(report, tally.made > 0 and tally.failed == 0, text, "; ".join(tally.problems))
    text = f"{old} got the first commit, then {new} the second; the slowest took {seconds_text(tally.slowest)}"
    tale.check(report, old > 0 and new > 0, text)


async def failures(tale: Tale, report: Report) -> None:
    """Two commits that must not get through."""
    base = tale.world.base_image
    sha = await tale.push(BROKEN_MESSAGE, broken_build_files(base))
    reply = await tale.deploy(report, sha, BROKEN_MESSAGE)
    await _judge_failure(tale, report, reply, BUILD_FAILS)
    sha = await tale.push(UNHEALTHY_MESSAGE, never_healthy_files(base))
    reply = await tale.deploy(report, sha, UNHEALTHY_MESSAGE)
    await _judge_failure(tale, report, reply, NEVER_HEALTHY)


async def _judge_failure(tale: Tale, report: Report, reply: Reply, wanted: Expected) -> None:
    """It failed as it should, says everything that one needs, and harmed nothing."""
    text = f"Refused after {_took(report)}: {wanted.text}"
    if isinstance(reply, Deployed):
        tale.check(report, False, text, "it came up")
        return
    found = f"{reply.code} in phase {reply.phase}"
    tale.check(report, (reply.code, reply.phase) == (wanted.code, wanted.phase), text, found)
    tale.show_failure(reply, log_lines=wanted.log_lines)
    complete = bool(reply.reason and reply.hint and any(wanted.log in line for line in reply.log_tail))
    tale.check(report, complete, "The answer has its reason, a hint, and the log line that matters")
    serving = reply.still_serving == tale.second
    tale.check(report, serving, "It says that the second commit is still served", str(reply.still_serving))
    await tale.check_page(report, _second(tale), "The page is still that of the second commit")


async def again(tale: Tale, report: Report) -> None:
    """The second commit once more: nothing to build."""
    reply = await tale.deploy(report, tale.second, SECOND_MESSAGE)
    tale.check_up(report, reply, tale.second, f"Up and verified after {_took(report)}")
    built = reply.built if isinstance(reply, Deployed) else None
    tale.check(report, built is False, "Nothing was built: the image of the same inputs is still there")
    await tale.check_page(report, _second(tale), "The page names the second commit")


async def teardown(tale: Tale, report: Report) -> None:
    """Let go of the preview: all of it goes."""
    torn_down = await tale.world.client.teardown(NAME)
    report.facts["reply"] = torn_down.reply
    parts = {f"{kind}/{NAME}" for kind in ("ingress", "service", "deployment")}
    deleted = [*torn_down.deleted, *torn_down.also_deleted]
    tale.check(report, parts <= set(torn_down.deleted), f"Deleted {', '.join(deleted)}")
    try:
        page = await tale.visitor.look()
    except httpx.HTTPError:
        page = None
    gone = page is None or (page.status >= 400 and not page.commit)
    tale.check(report, gone, "The address serves nothing any more", f"status {page.status}" if page else "")


def _second(tale: Tale) -> dict[str, str]:
    """What the URL may serve from the second commit on."""
    return {tale.second: SECOND_MESSAGE}


def _took(report: Report) -> str:
    return seconds_text(report.deploys[-1].seconds)


Act = Callable[[Tale, Report], Awaitable[None]]


@dataclass(frozen=True)
class Step:
    """A step: its title, why it matters, and what it does."""

    title: str
    why: str
    act: Act

    async def run(self, tale: Tale) -> Report:
        """Do it; what cannot be done fails the step, not the demo."""
        report, begun = Report(self.title), time.monotonic()
        try:
            await self.act(tale, report)
        except httpx.HTTPError as error:
            tale.check(report, False, "The step came to its end", describe(error))
        except (ClientError, StackError, OSError, RuntimeError) as error:
            tale.check(report, False, "The step came to its end", f"{type(error).__name__}: {error}")
        report.seconds = time.monotonic() - begun
        return report


STEPS = (
    Step(
        "A commit becomes an address",
        "The provider answers only once it saw the public URL serve this very commit.",
        first_commit,
    ),
    Step(
        "A second commit, while people are looking",
        "The new container gets the visitors once it passed its checks; then the old one goes.",
        under_load,
    ),
    Step(
        "Two commits that must not get through",
        "A failure has to say where, why and whose it is, and must not harm what works.",
        failures,
    ),
    Step(
        "The second commit again",
        "The same inputs make the same image, so there is nothing to build.",
        again,
    ),
)
TEARDOWN = Step("Teardown", "Whoever lets go of a preview leaves nothing behind.", teardown)
