"""GET pods/NAME/log: what S2's kubelet has kept, with the options of the real endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from aiohttp import ClientConnectionResetError, web

from tests.cluster.standin.requests import flag, number
from tests.cluster.standin.status import Cause, bad_request, invalid
from tests.cluster.standin.store import Store
from tests.cluster.standin.values import Object, at, items

Line = tuple[datetime, str]


class PodLogs(Protocol):
    """Where containers' output is kept."""

    def lines(self, namespace: str, pod: str, container: str, *, previous: bool) -> list[Line]:
        """What a container has written; KeyError if it never started."""

    def follow(self, namespace: str, pod: str, container: str) -> AsyncIterator[Line]:
        """What it writes, from the beginning until it ends."""


async def serve(request: web.BaseRequest, store: Store, logs: PodLogs, pod: Object) -> web.StreamResponse:
    """The answer to one request for a log."""
    query, meta = request.query, pod["metadata"]
    container = _container(pod, query.get("container", ""))
    _check(query, meta["name"])
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    if not at(pod, "spec", "nodeName"):
        return web.Response(status=204)
    previous = flag(query, "previous")
    try:
        written = logs.lines(meta["namespace"], meta["name"], container, previous=previous)
    except KeyError:
        raise _not_started(pod, container, previous=previous) from None
    with suppress(ClientConnectionResetError):  # whoever asked is gone
        await response.prepare(request)
        writer = _Writer(response, query, _since(query, store.now()))
        first = _first(written, number(query, "tailLines"), writer.since)
        if previous or not flag(query, "follow"):
            await writer.write(written[first:])
            return response
        index = 0
        async for line in logs.follow(meta["namespace"], meta["name"], container):
            if index >= first and not await writer.write([line]):
                break
            index += 1
    return response


class _Writer:
    """Writes lines until the limit of bytes is reached."""

    def __init__(self, response: web.StreamResponse, query: Mapping[str, str], since: datetime | None) -> None:
        self.since = since
        self._response = response
        self._timestamps = flag(query, "timestamps")
        self._left = number(query, "limitBytes")

    async def write(self, lines: list[Line]) -> bool:
        """False once nothing more may be written."""
        for moment, text in lines:
            if self.since is not None and moment < self.since:
                continue
            stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ") if self._timestamps else ""
            body = f"{stamp}{text}\n".encode()
            if self._left is not None:
                body = body[: self._left]
                self._left -= len(body)
            await self._response.write(body)
            if self._left == 0:
                return False
        return True


def _first(written: list[Line], tail: int | None, since: datetime | None) -> int:
    """The index of the first line that is wanted."""
    first = next((i for i, (moment, _) in enumerate(written) if since is None or moment >= since), len(written))
    return first if tail is None else max(first, len(written) - tail)


def _since(query: Mapping[str, str], now: datetime) -> datetime | None:
    if text := query.get("sinceTime"):
        return _moment(text)
    seconds = number(query, "sinceSeconds")
    return now - timedelta(seconds=seconds) if seconds is not None else None


def _moment(text: str) -> datetime | None:
    """A time in a query; ApiError 400 for what is none."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        layout = "2006-01-02T15:04:05Z07:00"
        raise bad_request(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"') from None


def _check(query: Mapping[str, str], name: str) -> None:
    wrong = []
    tail, since, limit = (number(query, name) for name in ("tailLines", "sinceSeconds", "limitBytes"))
    if tail is not None and tail < 0:
        told = f"Invalid value: {tail}: must be greater than or equal to 0"
        wrong.append(Cause("FieldValueInvalid", told, "tailLines"))
    if since is not None and since < 1:
        wrong.append(Cause("FieldValueInvalid", f"Invalid value: {since}: must be greater than 0", "sinceSeconds"))
    if limit is not None and limit < 1:
        wrong.append(Cause("FieldValueInvalid", f"Invalid value: {limit}: must be greater than 0", "limitBytes"))
    if since is not None and query.get("sinceTime"):
        told = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        wrong.append(Cause("FieldValueForbidden", told, "[]"))
    _moment(query.get("sinceTime", ""))
    if wrong:
        raise invalid("", "PodLogOptions", name, wrong)


def _container(pod: Object, wanted: str) -> str:
    name = pod["metadata"]["name"]
    init = [str(each["name"]) for each in items(pod, "spec", "initContainers")]
    main = [str(each["name"]) for each in items(pod, "spec", "containers")]
    if wanted:
        if wanted not in (*init, *main):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(main) > 1:
        told = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
        if init:
            told += f" or one of the init containers: [{' '.join(init)}]"
        raise bad_request(told)
    return main[0]


def _not_started(pod: Object, container: str, *, previous: bool) -> Exception:
    name = pod["metadata"]["name"]
    if previous:
        return bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    statuses = [*items(pod, "status", "containerStatuses"), *items(pod, "status", "initContainerStatuses")]
    state: Object = next((each.get("state", {}) for each in statuses if each["name"] == container), {})
    reason = at(state, "waiting", "reason") or "ContainerCreating"
    if reason in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName"):
        return bad_request(
            f'container "{container}" in pod "{name}" is waiting to start: trying and failing to pull image'
        )
    return bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
