"""What the API server answered, held against what is relied on. Pure.

A proxy between, a version that nobody knows or a bug answers, too: what is no answer of a Kubernetes API is an outage,
which is told and asked again, instead of a mistake of ours somewhere later. Of objects that is what every one has;
what their kinds have is for those who judge them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from provider.errors import Temporary
from provider.platforms.kubernetes.refusals import Expired, Refused, unreachable, webhook_away

Object = dict[str, Any]

MOST_SAID = 4000
"""Characters of a refusal that are kept: the API server names every mistake of an object in one message."""
LONGEST_DELAY = 60.0
_WEBHOOK = re.compile(r'failed calling webhook "([^"]{1,253})"')


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list's objects; `version` to watch from, `more` to go on with, "" after the last."""

    items: list[Object]
    version: str
    more: str


def parsed(data: bytes) -> Object:
    """An answer that is a JSON object. Raises Temporary."""
    try:
        answer = from_json(data)
    except ValueError as error:
        raise _odd(data, str(error)) from error
    if not isinstance(answer, dict):
        raise _odd(data, "no object of JSON")
    return answer


def whole(answer: Object) -> Object:
    """An object as all have to be: it has a name, a uid and a version. Raises Temporary."""
    for name in ("name", "uid"):
        if not isinstance(field(answer, "metadata", name), str):
            raise unreachable(f"an object whose metadata.{name} is none")
    _version(answer)
    return answer


def page(answer: Object) -> Page:
    """A list's page. Raises Temporary."""
    items = field(answer, "items") or []  # null where there is no metadata to list
    if not isinstance(items, list):
        raise unreachable("a list without items")
    more = answer["metadata"].get("continue") if isinstance(answer.get("metadata"), dict) else None
    return Page([whole(one) for one in items], _version(answer), str(more or ""))


def change(line: bytes) -> tuple[str, Object]:
    """One line of a watch: what happened, and to which object; of a bookmark that has but a version.

    Raises:
        Expired: the version to watch from is too old.
        Temporary: another error ended the watch, or it is no such line.
    """
    told = parsed(line)
    kind, found = str(told.get("type")), told.get("object")
    if not isinstance(found, dict):
        raise _odd(line, "a change of no object")
    if kind == "ERROR":
        if found.get("code") == 410:
            raise Expired(str(found.get("message"))[:MOST_SAID])
        raise unreachable(f"watch: {found.get('message')}")
    if kind == "BOOKMARK":
        _version(found)
        return kind, found
    return kind, whole(found)


def refusal(status: int, pause: str, data: bytes) -> Refused | Temporary | Expired:
    """An answer of 400 and above: to be judged by the caller, or to be asked again (after `pause`, its Retry-After)."""
    try:
        told = parsed(data)
    except Temporary:
        told = {}
    message = str(told.get("message") or data[:300].decode(errors="replace"))[:MOST_SAID]
    if status == 410:
        return Expired(message)
    if status >= 500 and (webhook := _WEBHOOK.search(message)):
        return webhook_away(webhook[1], message)
    if status == 429 or status >= 500:
        seconds = pause.isascii() and pause.isdecimal()
        return unreachable(f"{status} {message}", min(float(pause), LONGEST_DELAY) if seconds else None)
    return Refused(status, str(told.get("reason", ""))[:100], message)


def field(answer: object, *path: str) -> Any:
    """What stands there. Raises Temporary where there is no such field."""
    for name in path:
        if not isinstance(answer, dict) or name not in answer:
            raise unreachable(f"an answer without {'.'.join(path)}")
        answer = answer[name]
    return answer


def _version(answer: Object) -> str:
    version = field(answer, "metadata", "resourceVersion")
    if not (isinstance(version, str) and version.isascii() and version.isdecimal() and len(version) < 20):
        raise unreachable("an answer whose metadata.resourceVersion is no number")
    return version


def _odd(data: bytes, why: str) -> Temporary:
    return unreachable(f"{why}: {data[:100].decode(errors='replace')}")
