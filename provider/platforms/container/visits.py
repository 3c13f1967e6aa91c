"""Which previews were visited: Caddy's access log, as datagrams to this machine's loopback.

Why datagrams: a log file needs a place that Caddy's user may write, and grows while no provider reads it; a stream
that nobody accepts keeps Caddy from loading its configuration. A datagram that nobody takes is gone, and disturbs no
request. They wait in the socket's buffer until somebody asks, some thousands of them; under a load that is higher
for long, a visit of another preview may be missed, and its next one is seen. A websocket is a visit when it ends.
"""

from __future__ import annotations

import re
import socket

import structlog

log = structlog.get_logger(__name__)

_BUFFER_BYTES = 4 << 20
_MOST_AT_ONCE = 20_000
_LONGEST = 4096
_HOST = re.compile(rb'"host":"([A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?"')


class Visits:
    """Hears of every request.

    Args:
        address: host:port (UDP) to which Caddy sends its access log; empty: of none.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Begin to hear. An address that is taken is no reason not to serve: then no visit counts."""
        if not self._address:
            return
        host, _, port = self._address.rpartition(":")
        heard = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        heard.setblocking(False)
        try:
            heard.bind((host.strip("[]"), int(port)))
        except OSError as error:
            heard.close()
            hint = "visits do not keep previews alive; set CADDY_ACCESS_ADDRESS to a free one"
            log.warning("visits.not_heard", address=self._address, error=str(error), hint=hint)
            return
        _enlarge(heard)
        self._socket = heard

    def close(self) -> None:
        """Hear no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def hosts(self) -> set[str]:
        """The hosts that were asked since the last call, in lower case and without ports."""
        found: set[bytes] = set()
        for _ in range(_MOST_AT_ONCE if self._socket is not None else 0):
            try:
                line = self._socket.recv(_LONGEST)  # type: ignore[union-attr]  # the range is empty without one
            except BlockingIOError:
                break
            if match := _HOST.search(line):
                found.add(match[1])
        return {host.decode().lower() for host in found}


def _enlarge(heard: socket.socket) -> None:
    """Give the socket a larger buffer, beyond what the system allows where we may."""
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    try:
        heard.setsockopt(socket.SOL_SOCKET, force, _BUFFER_BYTES)
    except PermissionError:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
