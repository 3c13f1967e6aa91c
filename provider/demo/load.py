"""Visitors of a preview: one who looks at the page, and many who keep asking while it is redeployed.

They are no part of the provider and trust nothing that it says: they speak HTTPS to the public address, know
only Caddy's CA, and count every answer that is not the right page as failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

COMMIT_HEADER = "X-Preview-Commit"
REQUEST_TIMEOUT = 5.0
CLIENTS = 8
INTERVAL = 0.2
PROBLEMS_KEPT = 5


async def certificate_authority(caddy_admin: str) -> str:
    """The root certificate of Caddy's own CA, as PEM. Raises httpx.HTTPError."""
    async with httpx.AsyncClient(trust_env=False, timeout=REQUEST_TIMEOUT) as http:
        answer = (await http.get(f"{caddy_admin}/pki/ca/local")).raise_for_status()
    return str(answer.json()["root_certificate"])


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: its status, the commit that its header names, and its body."""

    status: int
    commit: str
    body: str

    def problem(self, messages: Mapping[str, str]) -> str:
        """What is wrong with it, "" if nothing.

        Args:
            messages: commit sha → its message, of the commits that may be served.
        """
        if not 200 <= self.status < 300:
            return f"status {self.status}"
        if self.commit not in messages:
            return f"{COMMIT_HEADER} is {self.commit[:12] or 'absent'}"
        if self.commit[:12] not in self.body:
            return f"the page does not name commit {self.commit[:12]}"
        if html.escape(messages[self.commit]) not in self.body:
            return f"the page does not say {messages[self.commit]!r}"
        return ""


class Visitor:
    """Asks one URL at one address, over TLS.

    Args:
        url: what the preview is known by; host and server name follow it.
        connect: host:port that is connected to, because not every resolver knows `*.localhost`.
        ca_pem: the only authority that is trusted.
    """

    def __init__(self, url: str, *, connect: str, ca_pem: str) -> None:
        self.url = url
        self._public = urlsplit(url)
        self._connect = connect
        self._trust = ssl.create_default_context(cadata=ca_pem)

    def client(self, *, keep_alive: bool) -> httpx.AsyncClient:
        """Connections of one visitor, to be closed by the caller."""
        limits = httpx.Limits(max_keepalive_connections=1 if keep_alive else 0)
        return httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=REQUEST_TIMEOUT, limits=limits)

    async def look(self, http: httpx.AsyncClient | None = None) -> Page:
        """The page, by a new connection or by those of `http`. Raises httpx.HTTPError."""
        if http is None:
            async with self.client(keep_alive=False) as fresh:
                return await self.look(fresh)
        request = http.build_request(
            "GET",
            f"https://{self._connect}{self._public.path or '/'}",
            headers={"Host": self._public.netloc},
            extensions={"sni_hostname": self._public.hostname},
        )
        answer = await http.send(request)
        return Page(answer.status_code, answer.headers.get(COMMIT_HEADER, ""), answer.text)

    async def problem(self, messages: Mapping[str, str]) -> str:
        """What is wrong with the page now, "" if it is that of one of the commits in `messages`."""
        try:
            return (await self.look()).problem(messages)
        except httpx.HTTPError as error:
            return describe(error)


@dataclass
class Tally:
    """What the visitors got: requests made, those that failed, right answers by commit, the slowest (seconds)."""

    made: int = 0
    failed: int = 0
    by_commit: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, seconds: float, commit: str, problem: str) -> None:
        """Count one request; `problem` is "" for a right answer."""
        self.made += 1
        self.slowest = max(self.slowest, seconds)
        if not problem:
            self.by_commit[commit] += 1
            return
        self.failed += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(problem)


class SteadyLoad:
    """Several visitors who ask again and again, at a fixed pace whatever the answers do.

    Half of them keep their connection, as browsers do; the others come anew each time.

    Args:
        messages: commit sha → message of the commits that may be served; see `expect`.
    """

    def __init__(self, visitor: Visitor, messages: Mapping[str, str], *, clients: int = CLIENTS) -> None:
        self.clients = clients
        self.tally = Tally()
        self._visitor = visitor
        self._messages = messages
        self._stopping = asyncio.Event()

    def expect(self, messages: Mapping[str, str]) -> None:
        """From now on, a request that begins must get one of these commits."""
        self._messages = messages

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Tally]:
        """Ask until the end of the block, and then until every request under way is answered and counted."""
        visits = [asyncio.create_task(self._visit(number)) for number in range(self.clients)]
        try:
            yield self.tally
            self._stopping.set()
            await asyncio.gather(*visits)
        finally:
            for visit in visits:
                visit.cancel()
            await asyncio.gather(*visits, return_exceptions=True)

    async def _visit(self, number: int) -> None:
        # Spread over the interval; a late answer is followed at once by what was due meanwhile.
        due = time.monotonic() + INTERVAL * number / self.clients
        async with self._visitor.client(keep_alive=number % 2 == 0) as http:
            while not await self._stopped_before(due):
                await self._ask(http)
                due += INTERVAL

    async def _stopped_before(self, due: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(due - time.monotonic(), 0)):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _ask(self, http: httpx.AsyncClient) -> None:
        messages, begun, commit = self._messages, time.monotonic(), ""
        try:
            page = await self._visitor.look(http)
        except httpx.HTTPError as error:
            problem = describe(error)
        else:
            commit, problem = page.commit, page.problem(messages)
        self.tally.add(time.monotonic() - begun, commit, problem)


def describe(error: httpx.HTTPError) -> str:
    """One line of what went wrong below HTTP."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
