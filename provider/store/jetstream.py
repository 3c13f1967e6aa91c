"""A bucket in JetStream KV. The only place of the store that knows the NATS client and its exceptions.

What was learnt the hard way and stands here: a write that timed out may have been applied, or may be
sent later from the client's buffer; the client's own watch resumes late after a restart and can end
its first listing early; a missing stream must never look like a missing record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import StorageType
from nats.js.kv import KV_OP, KeyValue

from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import now
from provider.store.kv import Deleted, Entry, KeyExists, WrongRevision, check_size
from provider.store.listing import Listing
from provider.store.records import DEPLOY_TTL, Store

log = structlog.get_logger(__name__)

HEADROOM_BYTES = 64 * 1024
"""Left for headers: the client closes for good when payload and headers pass the server's limit."""
REQUEST_TIMEOUT = 5.0
RELIST_SECONDS = 5.0
WHOLE_EVERY = 60
"""Turns of a watch from one that lists everything to the next."""
_BUCKET_BYTES = {"previews": 128 << 20, "deploys": 512 << 20}
Failed = Callable[[str], None]
_NO_MESSAGE = 10037
_WRONG_LAST_SEQUENCE = (10071, 10164)


def payload_limit(nc: Client) -> int:
    """The largest payload in bytes that may be given to the client."""
    return nc.max_payload - HEADROOM_BYTES


async def open_store(
    nc: Client,
    bucket_prefix: str,
    platform_id: str,
    *,
    relist: float = RELIST_SECONDS,
    failed: Failed | None = None,
) -> Store:
    """The store in this bus's JetStream; its buckets are made where they are missing.

    Args:
        nc: the connection.
        bucket_prefix: begins the buckets' names.
        platform_id: whose records these are.
        relist: seconds after which a watch looks whether it missed something.
        failed: told the operation, each time that the bus fails one.
    """

    async def bucket(name: str, ttl: timedelta | None = None) -> JetStreamKeyValue:
        most = _BUCKET_BYTES[name]
        return await JetStreamKeyValue.open(nc, f"{bucket_prefix}_{name}", most, ttl=ttl, relist=relist, failed=failed)

    previews, deploys = await bucket("previews"), await bucket("deploys", DEPLOY_TTL)
    return Store(previews=previews, deploys=deploys, platform_id=platform_id)


@contextmanager
def translated() -> Iterator[None]:
    """Nobody above sees an exception of the client."""
    try:
        yield
    except nats.errors.MaxPayloadError:
        raise Permanent(
            Code.INTERNAL_ERROR,
            "A record is larger than the bus carries.",
            reason="RecordTooLarge",
            hint="Make the spec and the request smaller, or raise max_payload of the bus.",
        ) from None
    except (nats.errors.Error, TimeoutError, OSError) as error:
        detail = f"{type(error).__name__} {getattr(error, 'description', None) or ''}".strip()
        raise Temporary(
            Code.PLATFORM_UNREACHABLE,
            "The store on the bus did not answer.",
            reason="StoreUnreachable",
            hint="Is nats-server up, and JetStream within its limits?",
            evidence=(detail,),
        ) from error


class JetStreamKeyValue:
    """One KV bucket; see `kv.KeyValue`. `failed` is told the operation that the bus failed."""

    def __init__(
        self, nc: Client, js: JetStreamContext, bucket: KeyValue, name: str, relist: float, failed: Failed | None = None
    ) -> None:
        self._nc = nc
        self._js = js
        self._bucket = bucket
        self._stream = f"KV_{name}"
        self._subjects = f"$KV.{name}."
        self._relist = relist
        self._failed = failed or (lambda _: None)

    @classmethod
    async def open(
        cls,
        nc: Client,
        name: str,
        max_bytes: int,
        *,
        ttl: timedelta | None = None,
        relist: float = RELIST_SECONDS,
        failed: Failed | None = None,
    ) -> JetStreamKeyValue:
        """Bind the bucket, or make it. One that is there is taken as it is: its limits are the operator's."""
        js = nc.jetstream(timeout=REQUEST_TIMEOUT)
        with translated():
            try:
                bucket = await js.key_value(name)
            except nats.js.errors.BucketNotFoundError:
                bucket = await js.create_key_value(
                    bucket=name,
                    history=1,
                    ttl=ttl.total_seconds() if ttl else None,
                    max_bytes=max_bytes,
                    storage=StorageType.FILE,
                )
        return cls(nc, js, bucket, name, relist, failed)

    async def get(self, key: str) -> Entry | None:
        """See `kv.KeyValue`. Asks the stream's leader: a direct get may answer from a stale replica."""
        with self._asking("get"):
            try:
                message = await self._js.get_msg(self._stream, subject=self._subjects + key, direct=False)
            except nats.js.errors.NotFoundError as error:
                if error.err_code == _NO_MESSAGE:
                    return None
                raise
        if KV_OP in (message.headers or {}):
            return None
        return Entry(key, message.data or b"", message.seq or 0, message.time or now())

    async def create(self, key: str, value: bytes) -> int:
        """See `kv.KeyValue`."""
        check_size(key, value, payload_limit(self._nc))
        with self._asking("create"):
            try:
                return await self._bucket.create(key, value)
            except nats.js.errors.KeyWrongLastSequenceError:
                raise KeyExists(key) from None
            except TimeoutError as error:
                return await self._applied_after_all(key, value, error)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """See `kv.KeyValue`."""
        check_size(key, value, payload_limit(self._nc))
        with self._asking("update"):
            try:
                return await self._bucket.update(key, value, last=revision)
            except nats.js.errors.KeyWrongLastSequenceError:
                raise WrongRevision(key) from None
            except TimeoutError as error:
                return await self._applied_after_all(key, value, error)

    async def put(self, key: str, value: bytes) -> int:
        """See `kv.KeyValue`."""
        check_size(key, value, payload_limit(self._nc))
        with self._asking("put"):
            return await self._bucket.put(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """See `kv.KeyValue`."""
        with self._asking("delete"):
            try:
                await self._bucket.delete(key, last=revision)
            except nats.js.errors.APIError as error:
                if error.err_code not in _WRONG_LAST_SEQUENCE:
                    raise
                raise WrongRevision(key) from None

    async def purge(self, key: str, revision: int) -> None:
        """See `kv.KeyValue`. A deleted key leaves a marker, which nothing else would ever remove."""
        await self.delete(key, revision)
        subject = self._subjects + key
        with self._asking("purge"):
            marker = await self._js.get_msg(self._stream, subject=subject, direct=False)
            if KV_OP in (marker.headers or {}):  # else it was made anew since
                await self._js.purge_stream(self._stream, seq=(marker.seq or 0) + 1, subject=subject)

    async def entries(self, prefix: str) -> list[Entry]:
        """See `kv.KeyValue`."""
        with self._asking("entries"):
            listing = await Listing.of(self._nc, self._js, self._stream, self._subject(prefix))
            try:
                found = {message.subject: self._change(message) async for message in listing.waiting()}
            finally:
                await listing.close()
        return [change for change in found.values() if isinstance(change, Entry)]

    async def watch(self, prefix: str) -> AsyncIterator[Entry | Deleted]:
        """See `kv.KeyValue`. Each turn lists and then follows with the same consumer, so nothing falls between.

        A turn is short, because a consumer dies with its server and a change can then only be listed. Most list but
        what came after the last change that is known; what vanished without a trace is found by the whole ones.
        """
        known: dict[str, int] = {}
        turns = 0
        while True:
            try:
                async for change in self._turn(prefix, known, whole=turns % WHOLE_EVERY == 0):
                    yield change
                turns += 1
            except PreviewError as error:
                turns = 0
                log.debug("store.watch.again", prefix=prefix, error=str(error), evidence=error.evidence)
                await asyncio.sleep(min(1.0, self._relist))

    async def _turn(self, prefix: str, known: dict[str, int], *, whole: bool) -> AsyncIterator[Entry | Deleted]:
        """One listing's differences from `known`, each as it comes, then what follows for a while."""
        after = 0 if whole else max(known.values(), default=0)
        with self._asking("watch"):
            listing = await Listing.of(self._nc, self._js, self._stream, self._subject(prefix), after)
        try:
            listed = set[str]()
            with self._asking("watch"):
                async for one in listing.waiting():
                    change = self._change(one)
                    listed.add(change.key)
                    if _is_news(change, known):
                        yield change
            for key in known.keys() - listed if whole else ():
                del known[key]
                yield Deleted(key)
            until = time.monotonic() + self._relist
            while (left := until - time.monotonic()) > 0:
                with self._asking("watch"):
                    message = await listing.next(left)
                if message is not None and _is_news(change := self._change(message), known):
                    yield change
        finally:
            await listing.close()

    @contextmanager
    def _asking(self, operation: str) -> Iterator[None]:
        try:
            with translated():
                yield
        except Temporary:
            self._failed(operation)
            raise

    def _subject(self, prefix: str) -> str:
        return f"{self._subjects}{prefix}" + (">" if prefix.endswith(".") else "")

    def _change(self, message: Msg) -> Entry | Deleted:
        key = message.subject.removeprefix(self._subjects)
        if KV_OP in (message.headers or {}):
            return Deleted(key)
        metadata = message.metadata
        return Entry(key, message.data, metadata.sequence.stream, metadata.timestamp)

    async def _applied_after_all(self, key: str, value: bytes, error: TimeoutError) -> int:
        """A write whose acknowledgement is missing may stand: then it is ours, with its revision."""
        entry = await self.get(key)
        if entry is not None and entry.value == value:
            return entry.revision
        raise error


def _is_news(change: Entry | Deleted, known: dict[str, int]) -> bool:
    """Whether `known` did not know that yet; it does afterwards."""
    if isinstance(change, Deleted):
        return known.pop(change.key, None) is not None
    if known.get(change.key, 0) >= change.revision:
        return False
    known[change.key] = change.revision
    return True
