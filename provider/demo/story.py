"""`preview demo`: the whole path on this machine, from a commit to a verified URL, told in four steps.

It starts its own stack, git host and provider, acts as an orchestrator over NATS, looks at the result like a
visitor, and in the end leaves nothing behind, however it ends.

Exit status: 0 all steps did what they should; 1 one did not; 4 the demo cannot run here; 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from provider.client import ClientError
from provider.demo.load import certificate_authority
from provider.demo.processes import StackError, free_port
from provider.demo.sample_app import NAME
from provider.demo.screen import Screen, seconds_text
from provider.demo.story_steps import STEPS, TEARDOWN, Step
from provider.demo.story_tale import Report, Tale
from provider.demo.world import World, local_world

OK, FAILED, CANNOT_RUN, INTERRUPTED = 0, 1, 4, 130
PUBLIC_PORT = 8443
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG_LINES, LOG_WIDTH = 4, 160
INTERRUPTION = "interrupted"
PARTS = "NATS, registry, Podman, Caddy, git host, provider"


def run(once: bool, as_json: bool) -> int:
    """Tell the story.

    Args:
        once: tear down and end after the steps, instead of staying up until interrupted.
        as_json: print one JSON object on stdout, and what a person reads on stderr.

    Returns:
        The process's exit status.
    """
    # The git host says there when somebody goes away in the middle of an answer, as whoever is interrupted does.
    logging.getLogger("aiohttp.server").addHandler(logging.NullHandler())
    story = Story(Screen(sys.stderr if as_json else sys.stdout), once=once, as_json=as_json)
    status = CANNOT_RUN
    try:
        asyncio.run(story.tell())
        status = OK if story.ok else FAILED
    except (asyncio.CancelledError, KeyboardInterrupt):
        status = FAILED if story.finished and not story.ok else INTERRUPTED
        story.error = INTERRUPTION
    except (StackError, ClientError, httpx.HTTPError) as error:
        story.error = str(error) or type(error).__name__
    story.end()
    return status


class Story:
    """The steps in their world, and what came of them."""

    def __init__(self, screen: Screen, *, once: bool, as_json: bool) -> None:
        self.error = ""
        self.finished = False
        self._screen = screen
        self._once = once
        self._json_due = as_json
        self._begun = time.monotonic()
        self._ready = 0.0
        self._removed = False
        self._url = ""
        self._dashboard = ""
        self._reports: list[Report] = []
        self._teardown: Report | None = None

    @property
    def ok(self) -> bool:
        """Whether every step did what it should, the teardown included where there is one."""
        reports = [*self._reports, *([self._teardown] if self._teardown else [])]
        return self.finished and not self.error and all(report.ok for report in reports)

    async def tell(self) -> None:
        """Start everything, do the steps, and remove everything.

        Raises:
            StackError, ClientError, httpx.HTTPError: it cannot run here, or a server died.
            asyncio.CancelledError: it was interrupted.
        """
        self._screen.opening()
        with cancelled_once(), public_port() as port:
            cleanup = contextlib.AsyncExitStack()
            try:
                with self._screen.waiting(f"Starting {PARTS}"):
                    address = f"127.0.0.1:{free_port()}"
                    self._dashboard = f"http://{address}/"
                    world = await cleanup.enter_async_context(
                        local_world(public_port=port, environment={"HTTP_ADDRESS": address})
                    )
                    tale = await self._begin(world)
                self._screen.ready(self._ready, PARTS)
                await _while_alive(world, self._steps(tale))
            finally:
                with self._screen.waiting("Removing everything") if self._ready else contextlib.nullcontext():
                    await cleanup.aclose()
                self._removed = True

    async def _begin(self, world: World) -> Tale:
        ca_pem = await certificate_authority(world.stack.caddy.address)
        (world.stack.folder / "ca.crt").write_text(ca_pem)
        self._ready = time.monotonic() - self._begun
        return Tale(world, self._screen, ca_pem=ca_pem)

    async def _steps(self, tale: Tale) -> None:
        for number, step in enumerate(STEPS, start=1):
            self._reports.append(await self._step(str(number), step, tale))
            self._url = tale.url
        if self._once:
            self._teardown = await self._step("·", TEARDOWN, tale)
            self.finished = True
            return
        self.finished = True
        self._print_json()
        self._invite(tale)
        await asyncio.Event().wait()

    async def _step(self, mark: str, step: Step, tale: Tale) -> Report:
        self._screen.step(mark, step.title, step.why)
        return await step.run(tale)

    def _invite(self, tale: Tale) -> None:
        """How a person goes on from here."""
        self._screen.closing(self.ok, f"{self._verdict()} It all stays up until Ctrl-C.")
        ca, url = tale.world.stack.folder / "ca.crt", urlsplit(tale.url)
        resolve = f"{url.hostname}:{url.port or 443}:{tale.world.stack.ingress.rpartition(':')[0]}"
        preview = _preview_command()
        self._screen.copyable(
            [
                ("open", tale.url),
                ("watch", self._dashboard),
                ("CA", f"{ca}"),
                ("curl", f"curl --cacert {ca} --resolve {resolve} {tale.url}"),
                ("ask", f"export NATS_URL={tale.world.stack.nats.address}"),
                ("", f"{preview} status {NAME}"),
                ("go back", f"{preview} deploy {tale.request(tale.first)}"),
            ]
        )

    def _verdict(self) -> str:
        good = sum(report.ok for report in self._reports)
        if good == len(STEPS):
            return f"All {good} steps did what they should."
        return f"{len(STEPS) - good} of {len(STEPS)} steps did not do what they should."

    def end(self) -> None:
        """The last words."""
        left = "nothing is left" if self._removed else "something may be left; the next demo removes it"
        if self.error == INTERRUPTION:
            self._screen.closing(self._removed, f"{'Ended' if self.finished else 'Interrupted'}; {left}.")
        elif self.error:
            self._screen.closing(False, self.error)
        else:
            took = seconds_text(time.monotonic() - self._begun)
            self._screen.closing(self.ok, f"{self._verdict()} {took} in all, and {left}.")
        self._print_json()

    def _print_json(self) -> None:
        """The outcome, once."""
        if not self._json_due:
            return
        self._json_due = False
        outcome = {
            "ok": self.ok,
            "url": self._url,
            "dashboard": self._dashboard,
            "ready_seconds": round(self._ready, 3) or None,
            "seconds": round(time.monotonic() - self._begun, 3),
            "steps": [{"step": number, **report.as_json()} for number, report in enumerate(self._reports, start=1)],
            "teardown": self._teardown.as_json() if self._teardown else None,
            "removed": self._removed,
            "error": self.error or None,
        }
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


@contextlib.contextmanager
def cancelled_once() -> Iterator[None]:
    """Cancel the present task on the first signal that asks the process to end.

    Further ones change nothing, also afterwards: what has begun to be removed shall be removed to its end,
    which bounds its own time, and then the process ends anyway.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    # Under nohup, a terminal that is closed is no reason to end.
    signals = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def public_port() -> Iterator[int | None]:
    """8443 if nobody has it, else None; a demo that has it keeps others from taking it too.

    Caddy shares its port with whoever else asks for it to be shared, and listens only at the first deploy: so
    two demos could believe that it is theirs. An abstract socket goes with its process.
    """
    with socket.socket(socket.AF_UNIX) as ticket, socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ticket.bind(f"\0x1-preview-demo-port-{PUBLIC_PORT}")
            probe.bind(("127.0.0.1", PUBLIC_PORT))
        except OSError:
            port = None
        else:
            port = PUBLIC_PORT
        probe.close()
        yield port


async def _while_alive(world: World, work: Coroutine[None, None, None]) -> None:
    """Do the work; should a server of the world end meanwhile, the work does too. Raises StackError."""
    tasks = asyncio.create_task(work), asyncio.create_task(_until_death(world))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_death(world: World) -> None:
    """Wait until a server of the world ends, which none should. Raises StackError."""
    servers = (*world.stack.servers, world.provider)
    deaths = {asyncio.create_task(server.died()): server for server in servers}
    try:
        done, _ = await asyncio.wait(deaths, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for death in deaths:
            death.cancel()
    dead = deaths[done.pop()]
    said = [line.strip()[:LOG_WIDTH] for line in dead.log_tail().splitlines()[-LOG_LINES:]]
    raise StackError("\n".join([f"{dead.name} ended by itself. The last that it said:", *said]))


def _preview_command() -> str:
    """How the `preview` of this environment is called from the shell."""
    installed = Path(sys.executable).with_name("preview")
    if shutil.which("preview") == str(installed):
        return "preview"
    here = Path.cwd()
    return shlex.quote(str(installed.relative_to(here) if installed.is_relative_to(here) else installed))
