"""Logs of builds in an object store of the bus: any provider reads what another one's build wrote.

The bucket drops its oldest chunks when it is full, so nobody has to tidy it up; a log that lacks one of its chunks is
as good as gone, which its digest tells.
"""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import IO, cast

import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.object_store import ObjectStore

from provider.errors import PreviewError
from provider.store.build_logs import DiskShelf, KeptLog, Shelf, file_for
from provider.store.jetstream import REQUEST_TIMEOUT, translated

log = structlog.get_logger(__name__)

READ_SECONDS = 10.0


async def open_shelf(nc: Client | None, name: str, folder: Path, *, most: int, age: float) -> Shelf:
    """Where logs are kept: on the bus if it keeps things (`nc`) and has room for them, else in a folder."""
    if nc is not None:
        try:
            return await ObjectShelf.open(nc, name, most=most, age=age)
        except PreviewError as error:
            log.warning("build_logs.on_disk", error=str(error), evidence=error.evidence)
    return DiskShelf(folder, most=most, age=age)


class ObjectShelf:
    """See `build_logs.Shelf`; made by `open`."""

    def __init__(self, js: JetStreamContext, name: str, bucket: ObjectStore, patience: float) -> None:
        self._js = js
        self._name = name
        self._bucket = bucket
        self._patience = patience

    @classmethod
    async def open(cls, nc: Client, name: str, *, most: int, age: float, patience: float = READ_SECONDS) -> ObjectShelf:
        """Bind the bucket, or make it; one that is there is taken as it is: its limits are the operator's.

        Args:
            nc: the bus.
            name: the bucket's.
            most: bytes that all logs may have together.
            age: seconds after which a log goes.
            patience: seconds for reading one.

        Raises:
            Temporary: `platform_unreachable`, also where JetStream has no room for it.
        """
        js = nc.jetstream(timeout=REQUEST_TIMEOUT)
        with translated():
            try:
                return cls(js, name, await js.object_store(name), patience)
            except nats.js.errors.BucketNotFoundError:
                pass
            # Not by `create_object_store`, whose buckets take nothing more when they are full.
            config = StreamConfig(
                name=f"OBJ_{name}",
                description="Logs of builds.",
                subjects=[f"$O.{name}.C.>", f"$O.{name}.M.>"],
                discard=DiscardPolicy.OLD,
                storage=StorageType.FILE,
                max_age=age,
                max_bytes=most,
                allow_rollup_hdrs=True,
                allow_direct=True,
            )
            await js.add_stream(config)
            return cls(js, name, await js.object_store(name), patience)

    async def put(self, key: str, log: IO[bytes]) -> None:
        """See `Shelf`."""
        with translated():
            await self._bucket.put(key, cast("bytes", log))  # it takes files as well, and says so nowhere

    async def get(self, key: str) -> KeptLog | None:
        """See `Shelf`."""
        with translated():
            async with asyncio.timeout(self._patience):
                try:
                    return await self._read(key)
                except (nats.js.errors.NotFoundError, nats.js.errors.DigestMismatchError):
                    return None

    async def _read(self, key: str) -> KeptLog:
        info = await self._bucket.get_info(key)
        # Chunks go before what tells of them, and the client would wait for them for ever.
        await self._js.get_last_msg(f"OBJ_{self._name}", f"$O.{self._name}.C.{info.nuid}")
        file = file_for(info.size or 0)
        try:
            await self._bucket.get(key, writeinto=cast("io.BufferedIOBase", file))
            return KeptLog(file)
        except BaseException:
            file.close()
            raise
