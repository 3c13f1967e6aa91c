"""The service on the bus: takes requests, hands each to a task, always answers.

Handlers of one endpoint run one after the other in the client, and an exception's repr would go to
the caller. So the client's handler only starts a task, and the task lets nothing out but answers.
"""

from __future__ import annotations

import asyncio
import functools
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service

from provider import __version__
from provider.bus import schemas
from provider.bus.connection import settled
from provider.bus.replies import encode
from provider.bus.requests import decode
from provider.bus.subjects import ENDPOINTS, QUEUE_GROUP, UNSUPPORTED, Subjects
from provider.errors import Code, Permanent, PreviewError, Temporary, internal_error
from provider.models import TraceContext, now
from provider.store import payload_limit

log = structlog.get_logger(__name__)

SERVICE = "preview-provider"
MOST_METADATA_BYTES = 64 << 10
"""Of the schemas in what the service tells of itself, which tools ask every provider for at once."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request.

    Args:
        body: decoded; {} before that.
        reply: where the answer goes; "" for nowhere.
        received_at: when it came.
        trace: what its headers say of the caller's trace.
        notes: what the audit trail shall know beside the body and the answer; the handler's to fill.
    """

    body: dict[str, Any]
    reply: str
    received_at: datetime
    trace: TraceContext | None = None
    notes: dict[str, Any] = field(default_factory=dict)


Served = Callable[[str, Incoming, "dict[str, Any] | None"], None]
"""Told of each request that was decided: its endpoint, the request, and the answer, or None where it follows."""
Handler = Callable[[Incoming], Awaitable[dict[str, Any] | None]]
"""Answers a request; None when the handler sees to the answer itself."""


class Endpoints:
    """The service with one endpoint per request subject.

    Args:
        handlers: by endpoint name; every name of `subjects.ENDPOINTS` must be there.
        served: see `Served`.
    """

    def __init__(
        self, nc: Client, subjects: Subjects, handlers: Mapping[str, Handler], served: Served | None = None
    ) -> None:
        if missing := set(ENDPOINTS) - set(handlers):
            raise ValueError(f"no handler for {', '.join(sorted(missing))}")
        self._nc = nc
        self._subjects = subjects
        self._handlers: dict[str, Handler] = {name: handlers[name] for name in ENDPOINTS} | {
            name: functools.partial(_unsupported, subjects.request(name)) for name in UNSUPPORTED
        }
        self._served = served or (lambda *_: None)
        self._service: Service | None = None
        self._metadata: dict[str, dict[str, str]] = {name: {} for name in ENDPOINTS}
        self._describing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take requests from now on."""
        self._service = await add_service(
            self._nc, name=SERVICE, version=__version__, description="Preview environments.", queue_group=QUEUE_GROUP
        )
        for name in self._handlers:
            await self._service.add_endpoint(
                name=name,
                subject=self._subjects.request(name),
                handler=functools.partial(self._accept, name),
                metadata=self._metadata.get(name, {}),
            )
        await settled(self._nc)
        self._describing = asyncio.create_task(self._describe(), name="schemas of the endpoints")

    async def _describe(self) -> None:
        """Complete the endpoints' metadata beside the first requests: the schemas take a tenth of a second to make."""
        most = min(MOST_METADATA_BYTES, payload_limit(self._nc) // 2)
        for name, described in (await asyncio.to_thread(schemas.metadata, most)).items():
            self._metadata[name] |= described

    async def close(self, timeout: float) -> None:
        """Take no more requests, and give those in hand `timeout` seconds; the rest is cancelled."""
        if self._describing is not None:
            await asyncio.gather(self._describing, return_exceptions=True)
        if self._service is not None:
            await _drain(self._service)
            self._service = None
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, name: str, request: Request) -> None:
        received_at = now()
        task = asyncio.create_task(self._serve(name, request, received_at), name=f"{name} request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, name: str, request: Request, received_at: datetime) -> None:
        reply: str = request._msg.reply  # the service API keeps it to itself; nats-py is pinned
        incoming = Incoming({}, reply, received_at, TraceContext.read(request.headers))
        answer = await answered(name, self._handlers[name], request.data, incoming)
        self._served(name, incoming, answer)
        if answer is None:
            return
        if not reply:
            log.info("request.nobody_asked", endpoint=name, ok=answer.get("ok"), code=answer.get("code"))
            return
        try:
            # Not `respond`: that of a plain message would send all the request's headers back.
            payload = encode(answer, payload_limit(self._nc))
            await self._nc.publish(reply, payload, headers=incoming.trace.headers() if incoming.trace else None)
        except nats.errors.Error as error:
            log.warning("request.not_answered", endpoint=name, error=type(error).__name__)


async def answered(name: str, handler: Handler, data: bytes, incoming: Incoming) -> dict[str, Any] | None:
    """The handler's answer or the failure form; nothing is raised but cancellation. Fills in the body."""
    try:
        incoming.body.update(decode(data))
        structlog.contextvars.bind_contextvars(**_shown_as(incoming))
        return await handler(incoming)
    except PreviewError as error:
        return failure_form(error)
    except Exception:
        # The exception may hold anything, so only its id leaves the process.
        error_id = uuid.uuid4().hex[:12]
        log.exception("request.unexpected", endpoint=name, error_id=error_id)
        return failure_form(internal_error(error_id))


def _shown_as(incoming: Incoming) -> dict[str, str]:
    """What each line of the log says of the request: nothing that could not be a name."""
    named = {"deploy_id": "deploy_id", "slug": "slug", "session": "session_id"}
    found = {name: incoming.body.get(asked) for name, asked in named.items()}
    names = {name: value for name, value in found.items() if isinstance(value, str) and _NAME.fullmatch(value)}
    return names | ({"trace_id": incoming.trace.trace_id} if incoming.trace is not None else {})


def failure_form(error: PreviewError) -> dict[str, Any]:
    """The failure form of an error outside any deploy; `retry_after_seconds` stands in it where that is known."""
    delay = error.delay if isinstance(error, Temporary) else None
    later = {} if delay is None else {"retry_after_seconds": delay}
    return {
        "ok": False,
        "code": error.code.value,
        "message": error.message,
        "reason": error.reason,
        "hint": error.hint,
        "retryable": error.retryable,
        "whose": error.whose.value,
        "evidence": list(error.evidence),
        "log_tail": list(error.log_tail),
        "warnings": [],
        **later,
        **({"details": error.details} if error.details else {}),
    }


async def _unsupported(subject: str, _: Incoming) -> dict[str, Any]:
    raise Permanent(
        Code.UNSUPPORTED_FEATURE,
        f"{subject} is not supported by this provider yet.",
        reason="SubjectNotSupported",
        hint=f"Supported are: {', '.join(ENDPOINTS)}.",
    )


async def _drain(service: Service) -> None:
    """Stop the service without losing requests that are in the client already, as its `stop` does."""
    subscriptions = [endpoint._subscription for endpoint in service._endpoints]
    subscriptions += list(service._subscriptions.values())
    for subscription in subscriptions:
        if subscription is None:
            continue
        try:
            await subscription.drain()
        except (nats.errors.Error, TimeoutError) as error:
            log.debug("endpoints.drain", error=type(error).__name__)
