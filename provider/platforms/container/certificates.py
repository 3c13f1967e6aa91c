"""Whether Caddy presents certificates yet: it makes them in the background, some 50 ms after it was configured."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress

_INTERVAL = 0.02
_HANDSHAKE_TIMEOUT = 2.0


async def missing(hosts: Iterable[str], *, address: str, port: int, ca_pem: str, patience: float) -> dict[str, str]:
    """The hosts for which none came within `patience` seconds, each with what the last handshake ended with.

    Args:
        hosts: the names that are asked for.
        address: where Caddy listens.
        port: the same.
        ca_pem: the authority that has to have signed them.
        patience: seconds for all of them together.
    """
    trusting = ssl.create_default_context(cadata=ca_pem)
    last = dict.fromkeys(sorted(hosts), "not asked")
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            for host in tuple(last):
                while problem := await _handshake(address, port, host, trusting):
                    last[host] = problem
                    await asyncio.sleep(_INTERVAL)
                del last[host]
    return last


async def _handshake(address: str, port: int, host: str, trusting: ssl.SSLContext) -> str:
    """Why no certificate for `host` is presented; "" if one is."""
    try:
        async with asyncio.timeout(_HANDSHAKE_TIMEOUT):
            _, writer = await asyncio.open_connection(address.strip("[]"), port, ssl=trusting, server_hostname=host)
    except OSError as error:  # ssl.SSLError and TimeoutError are some
        return repr(error)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""
