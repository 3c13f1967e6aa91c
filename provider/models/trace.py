"""W3C trace context: which trace of the caller's a deploy belongs to. Pure.

It comes as headers of a request, stands in the record, so that a deploy which another process goes on with keeps it,
and goes out with whatever is sent for that deploy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from provider.models.base import Tolerant

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MEMBERS, _CHARS = 32, 512


class TraceContext(Tolerant):
    """A place in a trace.

    Args:
        traceparent: as it goes out, in version 00.
        tracestate: as it came; "" for none.
        own: whether `traceparent` names a span of ours, rather than the caller's.
        parent: the caller's `traceparent` then; "" where the trace begins with us.
    """

    traceparent: str
    tracestate: str = ""
    own: bool = False
    parent: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent.split("-")[1]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent.split("-")[2]

    def headers(self) -> dict[str, str]:
        """What is sent along."""
        state = {TRACESTATE: self.tracestate} if self.tracestate else {}
        return {TRACEPARENT: self.traceparent, **state}

    @classmethod
    def read(cls, headers: Mapping[str, str] | None) -> TraceContext | None:
        """The context in a message's headers; None where there is none, or none that the recommendation allows.

        Names are taken in any case. A `tracestate` that is not well-formed is left out, as the recommendation wants.
        """
        found = {name.lower(): value.strip() for name, value in (headers or {}).items()}
        match = _TRACEPARENT.fullmatch(found.get(TRACEPARENT, ""))
        if match is None or (match[1] == "00" and match[5]):
            return None
        state = found.get(TRACESTATE, "")
        return cls(traceparent=f"00-{match[2]}-{match[3]}-{match[4]}", tracestate=state if _is_state(state) else "")


def _is_state(text: str) -> bool:
    members = [member.strip() for member in text.split(",") if member.strip()]
    return len(text) <= _CHARS and len(members) <= _MEMBERS and all(map(_MEMBER.fullmatch, members))
