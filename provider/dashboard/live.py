"""What the pages get as it happens: the list's changes, and of one preview its sections and its logs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from provider.background import ended, logged
from provider.bus.queries import IntrospectRequest
from provider.dashboard.board import Board, News
from provider.dashboard.look import Look, Looks
from provider.dashboard.sse import QUIET_SECONDS, EventStream, Gone
from provider.dashboard.views import readable
from provider.introspection import BEFORE_BUILT, Introspection
from provider.store import Store

GATHER_SECONDS = 0.1
"""What changes within this time is told at once."""
LOOK_SECONDS = 5.0
"""How often pods and their events are looked at, for a reader."""
TAIL = 300


async def tell_list(stream: EventStream, board: Board, mark: str, told: Callable[[News], Mapping[str, Any]]) -> None:
    """The list's changes since a mark, for ever. Raises `Gone`."""
    while True:
        news = board.since(mark)
        if news.whole or news.changed or news.gone:
            await stream.event("rows", told(news), news.mark)
        mark = news.mark
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await board.change(mark)
        except TimeoutError:
            await stream.event("quiet", {})
        else:
            await asyncio.sleep(GATHER_SECONDS)


class LivePreview:
    """Tells one reader of one preview.

    Args:
        render: makes the sections of a look, by their names.
    """

    def __init__(
        self,
        *,
        slug: str,
        stream: EventStream,
        board: Board,
        store: Store,
        looks: Looks,
        introspection: Introspection,
        render: Callable[[Look], Mapping[str, str]],
    ) -> None:
        self._slug = slug
        self._stream = stream
        self._board = board
        self._store = store
        self._looks = looks
        self._introspection = introspection
        self._render = render
        self._news = asyncio.Event()
        self._sent: dict[str, str] = {}
        self._tasks: dict[str, tuple[object, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Tell it all, for ever. Raises `Gone`."""
        self._keep("board", True, self._follow_board)
        try:
            while True:
                self._news.clear()
                look = await self._looks.at(self._slug)
                await self._tell(look)
                self._follow(look)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
                        await asyncio.sleep(GATHER_SECONDS)
        finally:
            await ended(task for _, task in self._tasks.values())

    async def _tell(self, look: Look | None) -> None:
        if look is None:
            await self._stream.event("gone", {})
            return
        sections = self._render(look)
        changed = {name: {"html": html, "hash": hash_of(html)} for name, html in sections.items()}
        changed = {name: one for name, one in changed.items() if self._sent.get(name) != one["hash"]}
        await self._stream.event("sections", changed)  # also an empty one: it says that the connection lives
        self._sent |= {name: one["hash"] for name, one in changed.items()}

    def _follow(self, look: Look | None) -> None:
        """Follow what this preview's newest deploy and its newest container say; what is followed already goes on."""
        if look is None:
            return
        deploy = look.deploy
        under_way = deploy is not None and deploy.report is None
        if deploy is not None and under_way:
            self._keep("deploy", deploy.deploy_id, lambda: self._follow_deploy(deploy.deploy_id))
        building = under_way and deploy is not None and deploy.phase in BEFORE_BUILT
        self._keep("build_logs", look.preview.newest.deploy_id, lambda: self._follow_log("build_logs", building))
        self._keep("logs", look.newest_container, lambda: self._follow_log("logs", True))

    def _keep(self, name: str, what: object, work: Callable[[], Any]) -> None:
        """Have that work done, instead of what was done by that name for something else."""
        present, task = self._tasks.get(name, (None, None))
        if task is not None and present == what:
            return
        if task is not None:
            task.cancel()
        self._tasks[name] = (what, asyncio.create_task(logged(work()), name=f"dashboard {name}"))

    async def _follow_board(self) -> None:
        mark = self._board.all().mark
        while True:
            await self._board.change(mark)
            news = self._board.since(mark)
            mark = news.mark
            if self._slug in {*news.gone, *(one.slug for one in news.changed)}:
                self._news.set()

    async def _follow_deploy(self, deploy_id: str) -> None:
        async for record in self._store.watch_deploy(deploy_id):
            self._news.set()
            if record is None or record.report is not None:
                return

    async def _follow_log(self, kind: str, lasts: bool) -> None:
        """Tell a log anew: its end, or all of it as it goes on where that `lasts`."""
        with contextlib.suppress(Gone):
            await self._stream.event("log", {"kind": kind, "begins": True, "lines": []})
            asked = IntrospectRequest.model_validate(
                {"slug": self._slug, "include": (kind,), "tail": TAIL, "follow": lasts}
            )
            if lasts:
                await self._introspection.follow(asked, LogReader(self._stream, kind))
            else:
                found = await self._introspection.look(asked)
                await LogReader(self._stream, kind).send({"lines": found[kind]})


class LogReader:
    """Takes what `introspect` says of a log, and sends it on; a slow reader slows it down."""

    def __init__(self, stream: EventStream, kind: str) -> None:
        self._stream = stream
        self._kind = kind

    async def send(self, body: Mapping[str, Any]) -> bool:
        """Send lines on; other messages are for readers on the bus."""
        if lines := body.get("lines"):
            try:
                await self._stream.event("log", {"kind": self._kind, "lines": [readable(line) for line in lines]})
            except Gone:
                return False
        return True

    async def send_encoded(self, body: bytes) -> bool:
        """The same of a message that is JSON already."""
        return await self.send(json.loads(body))


def hash_of(html: str) -> str:
    """Names what a section shows."""
    return hashlib.sha256(html.encode()).hexdigest()[:16]


class Readers:
    """Those whose answers go on: so many at most, and none when the process ends."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return self._closed or len(self._tasks) >= self._most

    @contextlib.asynccontextmanager
    async def one(self, opening: Awaitable[EventStream]) -> AsyncIterator[EventStream]:
        """The present task has a reader, until it is done, or nobody reads any more, or all are ended."""
        task = asyncio.current_task()
        assert task is not None, "answers are made in tasks"
        self._tasks.add(task)
        try:
            stream = await opening
            with contextlib.suppress(Gone):
                yield stream
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """End them all, and take no more."""
        self._closed = True
        await ended(self._tasks)
