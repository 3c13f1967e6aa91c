"""What really goes over the bus, recorded, and held against the AsyncAPI document.

The document tells readers to expect fields that it does not name; here they are mistakes: every object whose fields it
lists may have those alone.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from nats.aio.client import Client
from nats.aio.msg import Msg

Json = dict[str, Any]
REFUSALS = ("bad_request_decode", "missing_fields", "invalid_request")


@dataclass
class Tap:
    """Everything that went by, in order."""

    prefix: str
    messages: list[Msg] = field(default_factory=list)

    @property
    def requests(self) -> dict[str, str]:
        """The subject that was asked, by the reply subject."""
        found: dict[str, str] = {}
        for one in self.messages:
            if one.subject == f"{self.prefix}.queue":  # its own reply subject is the stream's
                found[json.loads(one.data).get("reply_to", "")] = f"{self.prefix}.provision"
            elif one.subject.startswith(self.prefix) and one.reply and ".events." not in one.subject:
                found[one.reply] = one.subject
        return found

    @property
    def refused(self) -> set[str]:
        """The reply subjects of requests that the provider refused for what stands in them."""
        asked = self.requests
        answers = (one for one in self.messages if one.subject in asked and one.data)
        return {one.subject for one in answers if json.loads(one.data).get("code") in REFUSALS}


@asynccontextmanager
async def tap(nc: Client, prefix: str) -> AsyncIterator[Tap]:
    """Record everything below the prefix, to sessions, to the audit, and to inboxes."""
    recorded = Tap(prefix)

    async def arrived(message: Msg) -> None:
        recorded.messages.append(message)

    subjects = (f"{prefix}.>", "x1.session.*.input", "x1.audit.preview", "_INBOX.>")
    subscriptions = [await nc.subscribe(subject, cb=arrived) for subject in subjects]
    await nc.flush()
    try:
        yield recorded
    finally:
        await nc.flush()
        for subscription in subscriptions:
            await subscription.unsubscribe()


class Wire:
    """The document, read as what it promises of each message."""

    def __init__(self, document: Json) -> None:
        self._document = strict(document)
        self.seen: dict[str, set[str]] = defaultdict(set)
        self._addresses = {
            name: re.compile(re.sub(r"{\w+}", r"[^.]+", channel["address"].replace(".", r"\.")) + "$")
            for name, channel in document["channels"].items()
            if channel["address"]
        }

    def check(self, recorded: Tap) -> list[str]:
        """What is not as the document says; what is, is counted in `seen`, by channel and schema.

        A request may be none of its channel's only if it was refused for what stands in it.
        """
        asked, refused, problems = recorded.requests, recorded.refused, list[str]()
        for message in recorded.messages:
            channel = self._channel(message.subject)
            if channel is None and message.subject in asked:
                channel = f"{self._channel(asked[message.subject])}Reply"
            if channel is not None and message.data and (found := self._check(channel, message)):
                problems += [] if message.reply in refused else [found]
        return problems

    def unseen(self) -> set[str]:
        """Every form of a message that never went by, as `channel schema`."""
        return {
            f"{channel} {name}"
            for channel in self._document["channels"]
            for name in self._forms(channel)
            if name not in self.seen[channel]
        }

    def _channel(self, subject: str) -> str | None:
        return next((name for name, address in self._addresses.items() if address.match(subject)), None)

    def _check(self, channel: str, message: Msg) -> str:
        """What is wrong with a message; nothing with one that the channel has."""
        body = json.loads(message.data)
        forms = self._forms(channel)
        errors = {name: list(self._validator(schema).iter_errors(body)) for name, schema in forms.items()}
        good = [name for name, found in errors.items() if not found]
        self.seen[channel].update(good)
        if good:
            return ""
        told = {name: [f"{one.json_path}: {one.message[:300]}" for one in found[:3]] for name, found in errors.items()}
        return f"{message.subject} is none of {channel}'s messages: {told} {message.data[:1500]!r}"

    def _forms(self, channel: str) -> Json:
        """The schemas of what may go over a channel, by their names."""
        found: Json = {}
        for reference in self._document["channels"][channel]["messages"].values():
            payload = self._at(reference["$ref"])["payload"]
            for one in payload.get("oneOf", [payload]):
                found[one.get("$ref", "anything").rpartition("/")[2]] = one
        return found

    def _at(self, reference: str) -> Json:
        place: Any = self._document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
        return dict(place)

    def _validator(self, schema: Json) -> Draft202012Validator:
        return Draft202012Validator({**schema, "components": self._document["components"]})


def strict(schema: Any) -> Any:
    """The same, but objects have no other fields than those that are listed."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner
