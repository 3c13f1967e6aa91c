"""A provider inside the test's process that can be killed: what SIGKILL does to a process, in milliseconds.

All its tasks are known, for each inherits a context variable. To kill it is to shut its gate, to cancel its tasks until
none is left, however they clean up, and to drop its connections.
"""

from __future__ import annotations

import asyncio
import contextvars
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import httpx
import structlog

from provider.bus.identity import BusClient
from provider.service import Provider
from provider.settings import Settings
from tests.crash.gate import Gate, message_name

PATIENCE = 15.0
ROUND = 0.02

Sabotage = Callable[[Provider], None]

_who: contextvars.ContextVar[Mortal | None] = contextvars.ContextVar("_who", default=None)


class Mortal:
    """One life of a provider.

    Args:
        sabotage: takes a guard away from the provider, before it starts.

    Attributes:
        errors: what it logged as an error.
        log: the last lines that it logged.
        ready: whether it takes requests.
        gone: whether it was killed.
    """

    def __init__(self, settings: Settings, gate: Gate, sabotage: Sabotage | None = None) -> None:
        self.gate = gate
        self.errors: list[str] = []
        self.ready = self.gone = False
        self.log: deque[str] = deque(maxlen=12)
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._settings = settings
        self._sabotage = sabotage
        self._nc = GatedClient(self.gate)
        self._http: httpx.AsyncClient | None = None
        self._provider: Provider | None = None

    @property
    def provider(self) -> Provider:
        """The provider itself, once it has started."""
        assert self._provider is not None
        return self._provider

    async def start(self) -> None:
        """Begin; returns when it takes requests."""
        await self._within(self._start())
        self.ready = True

    async def chore(self, name: str) -> None:
        """Do one of its keeper's chores now."""
        await next(one.once for one in self.provider._keeper.chores if one.name == name)()

    async def kill(self) -> None:
        """End it as SIGKILL does. What it had sent is sent; nothing else leaves it, and nothing of it goes on."""
        self.gate.die()
        if self._nc._transport is not None:  # a client has no other way to be cut off
            self._nc._transport.close()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(PATIENCE):
            while left := self.left():
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=ROUND)
        self.gone = True
        if self._http is not None:
            await self._http.aclose()
        if self._provider is not None:  # its sockets, which the kernel would close
            await self._provider._http.close()
            await self._provider._platform._api.close()  # type: ignore[attr-defined]

    async def close(self) -> list[str]:
        """End it as SIGTERM does; returns what is left of it all the same."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._within(self._close())
        except TimeoutError:
            stuck = [f"did not end in {PATIENCE:g} s: {task!r}" for task in self.left()]
            await self.kill()
            return [f"gate dead: {self.gate.dead}", *stuck]
        await asyncio.sleep(0)
        if left := self.left():
            await asyncio.wait(left, timeout=1.0)
        return [f"task {task.get_name()}: {task.get_coro()}" for task in self.left()]

    def left(self) -> set[asyncio.Task[Any]]:
        """Its tasks that are not done."""
        return {task for task in self.tasks if not task.done()}

    async def _start(self) -> None:
        await self._nc.connect(self._settings.nats_url, allow_reconnect=False)
        self._http = httpx.AsyncClient(
            transport=GatedTransport(self.gate, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), trust_env=False
        )
        self._provider = await Provider.build(self._settings, self._nc, self._http)
        if self._sabotage is not None:
            self._sabotage(self._provider)
        await self._provider.start()

    async def _close(self) -> None:
        if self._provider is not None:
            await self._provider.close()
        if self._http is not None:
            await self._http.aclose()
        await self._nc.close()

    async def _within(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in a task that, with all that it starts, is known to be this provider's."""
        context = contextvars.copy_context()
        context.run(_who.set, self)
        await asyncio.create_task(work, context=context)


class GatedClient(BusClient):
    """A NATS client whose messages pass a gate."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """See `Client`: a message that is an effect has reached the server when this returns."""
        await self._gate.connected()
        name = message_name(subject, payload)

        async def send() -> None:
            await super(GatedClient, self).publish(subject, payload, reply, headers)
            if name is not None:
                await self._flush_pending()

        await (self._gate.read(send) if name is None else self._gate.effect(name, send))

    async def _process_msg(self, *message: Any) -> None:
        # What is frozen hears nothing either.
        await self._gate.connected()
        await self._gate.read(lambda: super(GatedClient, self)._process_msg(*message))


class GatedTransport(httpx.AsyncHTTPTransport):
    """A transport whose requests pass a gate; all of them only read."""

    def __init__(self, gate: Gate, *, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify)
        self._gate = gate

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `AsyncHTTPTransport`."""
        return await self._gate.read(lambda: super(GatedTransport, self).handle_async_request(request))


# ------------------------------------------------------------------------ whose is what


@contextmanager
def lives_are_told_apart(unhandled: list[str]) -> Iterator[None]:
    """Each task and each error in the log goes to the provider that made it; `unhandled` gets the loop's own."""
    loop = asyncio.get_running_loop()
    factory, handler, config = loop.get_task_factory(), loop.get_exception_handler(), structlog.get_config()
    loop.set_task_factory(_task)
    loop.set_exception_handler(lambda _, context: unhandled.append(_shown(context)))
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, _taken_down])
    try:
        yield
    finally:
        loop.set_task_factory(factory)
        loop.set_exception_handler(handler)
        structlog.configure(**config)


def _shown(context: dict[str, Any]) -> str:
    details = (context[name] for name in ("exception", "task", "future") if context.get(name) is not None)
    return f"{context['message']}: {', '.join(map(repr, details))}"


def _task(
    loop: asyncio.AbstractEventLoop,
    work: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
    context: contextvars.Context | None = None,
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    who = context.get(_who) if context is not None else _who.get()
    if who is not None:
        who.tasks.add(task)
        if who.gone:  # a timer of a dead process
            task.cancel()
    return task


def _taken_down(_: Any, level: str, entry: structlog.typing.EventDict) -> str:
    who = _who.get()
    if who is not None and not who.gate.dead:
        who.log.append(f"{entry}")
        if level in {"error", "exception", "critical"}:
            who.errors.append(f"{entry}")
    raise structlog.DropEvent
