"""The request `introspect`: all that can be seen of one preview or deploy, at once or as it goes on.

It changes nothing. An answer is bounded, and says under `truncated` what it left out and how to get it. With `follow`
the same inbox gets the answer, then lines as they come, a heartbeat when there are none, and an end; each message is to
be answered before the next one comes, so a reader is never flooded, and one that is gone is noticed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from provider import names
from provider.background import ended, logged
from provider.bus import requests
from provider.bus.endpoints import Handler, Incoming
from provider.bus.queries import IntrospectRequest
from provider.errors import Permanent, PreviewError
from provider.masking import MaskedStream, Masker
from provider.models import DeployRecord, Phase, PreviewRecord
from provider.pipeline.context import Context
from provider.platforms.looks import Lines, LogQuery
from provider.sharing import SharedLog, SharedLogs
from provider.store import KeptLog

log = structlog.get_logger(__name__)
Answer = dict[str, Any]

MOST_BYTES = 128 << 10
"""Of each log in an answer."""
MOST_THINGS = 100
HEARTBEAT_SECONDS = 5.0
LOOK_SECONDS = 0.5
BEFORE_BUILT = (Phase.RESOLVE, Phase.ADMIT, Phase.BUILD)
REST = "ask with a larger `tail` (up to 5000), or with `follow`, which gives the whole log of a build"
FOLLOWED = ("logs", "build_logs")


class Stream(Protocol):
    """Who follows: takes a message before the next one is sent."""

    async def send(self, body: Mapping[str, Any]) -> bool:
        """Take a message; False when nobody reads any more."""

    async def send_encoded(self, body: bytes) -> bool:
        """The same of a message that is JSON already."""


Streams = Callable[[str], Stream]


@dataclass(frozen=True, slots=True)
class _Masking:
    """What is secret, and what masks it, and whatever turns out to be secret later."""

    values: frozenset[str] | None
    masker: Callable[[], Masker]


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is looked at: a preview, a deploy, or both."""

    slug: str | None
    preview: PreviewRecord | None
    deploy: DeployRecord | None

    @property
    def build(self) -> tuple[str, str, str] | None:
        """Slug, build inputs and Job name of the build."""
        deploy, preview = self.deploy, self.preview
        if deploy is not None and deploy.slug and deploy.build_inputs and deploy.commit_sha:
            return deploy.slug, deploy.build_inputs, names.build_job(deploy.slug, deploy.commit_sha)
        current = preview.current if preview is not None else None
        if preview is None or current is None:
            return None
        inputs = next((one.build_inputs for one in preview.images if one.digest == current.digest), None)
        return (preview.slug, inputs, names.build_job(preview.slug, current.commit_sha)) if inputs else None


class Introspection:
    """Answers `introspect`.

    Args:
        status: answers `status`, which is a part of this.
        streams: a stream to an inbox.
    """

    def __init__(self, *, ctx: Context, status: Handler, streams: Streams) -> None:
        self._ctx = ctx
        self._status = status
        self._streams = streams
        self._logs = SharedLogs()
        self._followed: set[asyncio.Task[None]] = set()

    def handlers(self) -> dict[str, Handler]:
        """The handler of the endpoint."""
        return {"introspect": self.introspect}

    async def close(self) -> None:
        """Follow nothing any more."""
        await ended(self._followed)

    async def introspect(self, incoming: Incoming) -> Answer | None:
        """What can be seen; None where it is streamed."""
        asked = requests.one_of_them(IntrospectRequest, incoming.body)
        status = await self._status(_asking(incoming, asked)) or {}
        subject = await self._subject(asked)
        masking = await self._masking(subject)
        answer = await self._look(asked, subject, status, masking.masker())
        answer["warnings"] = list(requests.unknown_fields(incoming.body, IntrospectRequest))
        if not asked.follow:
            return answer
        if incoming.reply:
            following = self._follow(asked, subject, masking, answer, self._streams(incoming.reply))
            task = asyncio.create_task(logged(following), name="follow")
            self._followed.add(task)
            task.add_done_callback(self._followed.discard)
        return None

    async def look(self, asked: IntrospectRequest) -> Answer:
        """What can be seen at once, for a reader in this process; without `status`."""
        subject = await self._subject(asked)
        masking = await self._masking(subject)
        return await self._look(asked, subject, {}, masking.masker())

    async def follow(self, asked: IntrospectRequest, stream: Stream) -> None:
        """Send lines as they come to a reader in this process; returns when there are no more, or nobody reads."""
        subject = await self._subject(asked)
        await self._follow(asked, subject, await self._masking(subject), {"ok": True}, stream)

    async def _subject(self, asked: IntrospectRequest) -> _Subject:
        store = self._ctx.store
        if asked.deploy_id is not None:
            deploy = await store.get_deploy(asked.deploy_id)
            slug = deploy.slug if deploy is not None else None
            return _Subject(slug, await store.get_preview(slug) if slug else None, deploy)
        preview = await store.get_preview(str(asked.slug))
        deploy = await store.get_deploy(preview.newest.deploy_id) if preview and preview.newest.deploy_id else None
        return _Subject(asked.slug, preview, deploy)

    async def _masking(self, subject: _Subject) -> _Masking:
        values = await self._secret_values(subject)
        deploy_id = subject.deploy.deploy_id if subject.deploy is not None else ""
        return _Masking(values, self._ctx.logbook.masking(deploy_id, values))

    async def _secret_values(self, subject: _Subject) -> frozenset[str] | None:
        """The secrets of the deploy and of what runs; None where they can't be had."""
        deploy, preview = subject.deploy, subject.preview
        revisions = (preview.current, preview.last_good) if preview is not None else ()
        bundles = {one.bundle.name: one.bundle for one in revisions if one is not None and one.bundle is not None}
        own = deploy.bundle if deploy is not None else None
        runs = deploy is not None and deploy.report is None
        if own is not None and runs:
            bundles[own.name] = own
        staged = deploy.staged if deploy is not None and runs else ""
        secret_values = self._ctx.platform.secret_values
        try:
            values = await secret_values(staged, tuple(bundles.values()))
            if own is not None and own.name not in bundles:
                with suppress(Permanent):  # it went with what ran of the deploy
                    values |= await secret_values("", (own,))
        except PreviewError:
            return None
        return values

    # ------------------------------------------------------------------ at once

    async def _look(self, asked: IntrospectRequest, subject: _Subject, status: Answer, masker: Masker) -> Answer:
        inspector, slug = self._ctx.platform.inspector, subject.slug
        answer: Answer = {"ok": True, "slug": slug, "truncated": {}}
        deploy = subject.deploy
        answer["deploy_id"] = deploy.deploy_id if deploy is not None else None
        if "status" in asked.include:
            heavy = ("ok", "manifests", "images", "history", "timings", "report")
            answer["status"] = {key: _slim(value) for key, value in status.items() if key not in heavy}
        if "phases" in asked.include:
            answer["phases"] = [one.model_dump(mode="json") for one in (deploy.timings if deploy is not None else ())]
        if "pods" in asked.include:
            pods = [masker.data(asdict(pod)) for pod in await inspector.pods(slug)] if slug else []
            answer["pods"] = _last(pods, "pods", answer)
        if "events" in asked.include:
            events = [masker.data(asdict(event)) for event in await inspector.events(slug)] if slug else []
            answer["events"] = _last(events, "events", answer)
        if "logs" in asked.include and not asked.follow:
            lines = inspector.app_log(slug, _query(asked, tail=asked.tail + 1)) if slug else None
            answer["logs"] = await _bounded(lines, asked.tail, masker, "logs", answer)
        if "build_logs" in asked.include and not asked.follow:
            found = await self._build_lines(subject, follow=False)
            answer["build_logs"] = await _bounded(found, asked.tail, masker, "build_logs", answer)
        return answer

    async def _build_lines(self, subject: _Subject, *, follow: bool) -> Lines | None:
        """The log of the build, from where it runs, or from where it is kept."""
        if (build := subject.build) is None:
            return None
        if (running := self._ctx.platform.inspector.build_log(*build, follow=follow)) is not None:
            return running
        kept = await self._ctx.logbook.kept(*build[:2])
        return _pieces(kept) if kept is not None else None

    # ------------------------------------------------------------ as it goes on

    async def _follow(
        self, asked: IntrospectRequest, subject: _Subject, masking: _Masking, first: Answer, stream: Stream
    ) -> None:
        """Send lines as they come; ends when there are no more, or nobody reads them."""
        if not await stream.send({"type": "look", **first}):
            return
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=2)
        async with AsyncExitStack() as logs:
            tasks = []
            for kind in FOLLOWED:
                if kind in asked.include and (kind != "logs" or subject.slug):
                    shared = await logs.enter_async_context(self._shared(kind, asked, subject, masking))
                    tail = asked.tail if kind == "logs" else None
                    tasks.append(asyncio.create_task(_pump(shared.messages(tail), waiting), name=f"follow {kind}"))
            try:
                await _send_all(waiting, len(tasks), stream)
            finally:
                await ended(tasks)

    def _shared(
        self, kind: str, asked: IntrospectRequest, subject: _Subject, masking: _Masking
    ) -> AbstractAsyncContextManager[SharedLog]:
        """The log, with whoever follows the same one already, and has the same secrets masked."""
        query = _query(asked, tail=asked.tail) if kind == "logs" else None
        deploy_id = subject.deploy.deploy_id if subject.deploy is not None else None
        generation = subject.preview.generation if subject.preview is not None else None

        def make() -> SharedLog:
            if query is None:
                return SharedLog(kind, self._build_as_it_goes(subject), masking.masker, lasting=True)
            return SharedLog(kind, self._ctx.platform.inspector.app_log(str(subject.slug), query), masking.masker)

        return self._logs.shared((kind, subject.slug, deploy_id, generation, query, masking.values), make)

    async def _build_as_it_goes(self, subject: _Subject) -> Lines:
        """A build's log from its beginning; one that has not begun is waited for."""
        while True:
            if (lines := await self._build_lines(subject, follow=True)) is not None:
                async with aclosing(lines) as closing:
                    async for some in closing:
                        yield some
                return
            deploy = subject.deploy
            if deploy is None or deploy.report is not None or deploy.phase not in BEFORE_BUILT:
                return
            await asyncio.sleep(LOOK_SECONDS)
            present = await self._ctx.store.get_deploy(deploy.deploy_id)
            subject = _Subject(present.slug if present is not None else None, None, present)


async def _send_all(waiting: asyncio.Queue[bytes | None], sources: int, stream: Stream) -> None:
    while sources:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                message = await waiting.get()
        except TimeoutError:
            if not await stream.send({"type": "heartbeat"}):
                return
            continue
        if message is None:
            sources -= 1
        elif not await stream.send_encoded(message):
            return
    await stream.send({"type": "end"})


async def _pump(messages: AsyncGenerator[bytes, None], waiting: asyncio.Queue[bytes | None]) -> None:
    """Hand messages over when there is room for them, then the end."""
    async with aclosing(messages) as closing:
        async for message in closing:
            await waiting.put(message)
    await waiting.put(None)


async def _pieces(kept: KeptLog) -> Lines:
    try:
        for some in kept.pieces():
            yield some
            await asyncio.sleep(0)
    finally:
        kept.close()


async def _bounded(lines: Lines | None, tail: int, masker: Masker, name: str, answer: Answer) -> list[str]:
    """The last lines, masked; that there are more is said."""
    if lines is None:
        return []
    last, count = deque[str](maxlen=tail), 0
    masked = MaskedStream(lambda: masker)
    async with aclosing(lines) as closing:
        async for some in closing:
            shown = masked.feed(some)
            last.extend(shown)
            count += len(shown)
    last.extend(rest := masked.flush())
    count += len(rest)
    size = sum(len(line.encode(errors="replace")) + 4 for line in last)
    while size > MOST_BYTES and len(last) > 1:
        size -= len(last.popleft().encode(errors="replace")) + 4
    if count > len(last):
        answer["truncated"][name] = REST
    return [line[:MOST_BYTES] for line in last]


def _last(things: list[Any], name: str, answer: Answer) -> list[Any]:
    if len(things) > MOST_THINGS:
        answer["truncated"][name] = f"the last {MOST_THINGS} of {len(things)} are shown"
    return things[-MOST_THINGS:]


def _query(asked: IntrospectRequest, tail: int) -> LogQuery:
    return LogQuery(
        pod=asked.container, tail=tail, since=asked.since, previous=asked.previous,
        follow=asked.follow and not asked.previous,
    )  # fmt: skip


def _asking(incoming: Incoming, asked: IntrospectRequest) -> Incoming:
    """The same question to `status`."""
    body = {"deploy_id": asked.deploy_id} if asked.deploy_id is not None else {"slug": asked.slug}
    return Incoming(body, incoming.reply, incoming.received_at)


def _slim(value: Any) -> Any:
    """Without manifests, which fill pages."""
    return {key: item for key, item in value.items() if key != "manifests"} if isinstance(value, dict) else value
