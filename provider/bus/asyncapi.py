"""The AsyncAPI 3 document of the provider: every subject, who publishes there, and what.

It is made from the models that the provider reads and writes with (`schemas`); the tests compare it with what really
goes over the wire.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, create_model
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from provider import __version__, models
from provider.bus.schemas import REPLIES, REQUESTS, SCHEMA_ID, message_name
from provider.bus.subjects import AUDIT, QUEUE_GROUP, UNSUPPORTED, Subjects, session_input
from provider.models import EVENT_DATA, Event, EventType, FailureReply

Json = dict[str, Any]
Model = type[BaseModel]

STREAM: tuple[Model, ...] = (models.FirstLook, models.LogLines, models.StreamSign)
"""What `introspect` with `follow` sends."""
ABOUT = {
    "provision": "Deploy a commit; answered when the preview is up or has failed.",
    "teardown": "Remove a preview and everything of it.",
    "validate": "What a deploy of this would make; nothing is built, applied or recorded.",
    "status": "The record of a preview or of a deploy.",
    "list": "A page of previews.",
    "wait": "Answered when a preview or deploy is in one of the states asked for, or when time is up.",
    "cancel": "Stop a deploy; answered when it has ended.",
    "touch": "Have a preview live on.",
    "claim": "For a while one session alone may change the preview.",
    "release": "Give a session's claim up.",
    "attach": "Make a preview, and the claim on it, another session's.",
    "introspect": "All that can be seen of a preview or deploy. With `follow` the answer is a stream of messages, each "
    "of which has a reply subject: answer it, with anything, to get the next one.",
    "approve": "Let a deploy go on that the policy holds; the first verdict counts.",
    "reject": "End a deploy that the policy holds; the first verdict counts.",
}
DESCRIPTION = (
    "Asked for a preview of a commit, it builds its Dockerfile, runs the image, checks the public URL, and answers. "
    "Requests go to a NATS micro service and carry a reply subject. Unknown fields of a request are warnings in its "
    "answer; an answer may have fields that are not named here. A deploy with `wait: ready` is answered at least once "
    "and never in two ways (`awaiting_approval` is no outcome yet); who lost the answer repeats the request with the "
    "same `deploy_id`."
)
TRACE = {
    "traceparent": {
        "type": "string",
        "description": "W3C trace context of the caller's; what is sent for a request has it, too.",
    },
    "tracestate": {"type": "string", "description": "Goes with `traceparent`."},
}
ASKED = {"type": "object", "properties": TRACE}
TOLD = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {"type": "string", "description": "The same for each repetition of a message."},
        **TRACE,
    },
}


def document(prefix: str) -> Json:
    """The document for providers that listen below `prefix`."""
    return _Document(Subjects(prefix)).whole()


def event_model(kind: EventType) -> Model:
    """An event of that type."""
    name = "".join(part.title() for part in kind.value.split(".")) + "Event"
    fields: dict[str, Any] = {"type": (Literal[kind], ...), "data": (EVENT_DATA[kind], ...)}
    return create_model(name, __base__=Event, __doc__=EVENT_DATA[kind].__doc__, **fields)


class _Document:
    """Collects channels, operations and messages; the schemas are made at the end, since they share definitions."""

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects
        self._channels: Json = {}
        self._operations: Json = {}
        self._messages: dict[str, Json] = {}
        self._payloads: dict[str, tuple[Model, ...]] = {}

    def whole(self) -> Json:
        for name in REQUESTS:
            self._endpoint(name)
        for name in UNSUPPORTED:
            self._unsupported(name)
        self._queue()
        self._told()
        schemas = self._schemas()
        info = {
            "title": "Preview provider",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        }
        return {
            "asyncapi": "3.0.0",
            "id": SCHEMA_ID,
            "info": info,
            "defaultContentType": "application/json",
            "channels": self._channels,
            "operations": self._operations,
            "components": {"schemas": schemas, "messages": self._messages},
        }

    # ----------------------------------------------------------------- subjects

    def _endpoint(self, name: str) -> None:
        request = self._message(message_name(name, "request_schema"), REQUESTS[name], headers=ASKED)
        replies = [
            self._message(message_name(name, "response_schema"), *REPLIES[name]),
            self._message("failure", FailureReply),
        ]
        if name == "introspect":
            replies.append(self._message("lookStream", *STREAM))
        self._request(name, ABOUT[name], request, replies)

    def _unsupported(self, name: str) -> None:
        """A subject of the contract that is not served yet."""
        self._messages["anything"] = {"name": "anything", "payload": {"type": "object"}}
        self._request(name, "Not supported yet: answers `unsupported_feature`.", "anything", ["failure"])

    def _request(self, name: str, about: str, request: str, replies: Sequence[str]) -> None:
        self._channel(name, self._subjects.request(name), about, request)
        self._channel(f"{name}Reply", None, f"Where {name} is answered: the request's reply subject.", *replies)
        self._operation(name, "receive", about)
        self._operations[name] |= {
            "bindings": {"nats": {"queue": QUEUE_GROUP, "bindingVersion": "0.1.0"}},
            "reply": {"channel": _ref("channels", f"{name}Reply"), "messages": self._named(f"{name}Reply", *replies)},
        }

    def _queue(self) -> None:
        about = "Deploys that wait for a provider, in a JetStream stream. Secrets may not stand in them."
        self._channel("queue", self._subjects.queue, about, message_name("provision", "request_schema"))
        self._operation("queue", "receive", about)
        self._operations["queue"]["reply"] = {
            "address": {"location": "$message.payload#/reply_to"},
            "channel": _ref("channels", "provisionReply"),
        }

    def _told(self) -> None:
        """What is published without being asked for."""
        kinds = {kind: event_model(kind) for kind in EventType}
        events = [self._message(model.__name__, model, headers=TOLD) for model in kinds.values()]
        about = "What happens to a preview's deploys; `_` stands for a slug that is not known yet. Kept in a stream."
        self._channel("events", self._subjects.events("{slug}"), about, *events)
        session = self._message("sessionMessage", models.SessionMessage, headers=TOLD)
        self._channel("session", session_input("{session_id}"), "How a session is told something.", session)
        audit = self._message("auditEntry", models.AuditEntry, headers=TOLD)
        self._channel("audit", AUDIT, "Who asked what, and what was decided.", audit)
        for name in ("events", "session", "audit"):
            self._operation(name, "send", self._channels[name]["description"])

    # -------------------------------------------------------------------- parts

    def _channel(self, name: str, address: str | None, about: str, *messages: str) -> None:
        channel: Json = {"address": address, "description": about}
        channel["messages"] = {message: _ref("components", "messages", message) for message in messages}
        if address and (parameters := re.findall(r"{(\w+)}", address)):
            channel["parameters"] = {one: {"description": f"One token: the {one}."} for one in parameters}
        self._channels[name] = channel

    def _operation(self, name: str, action: str, about: str) -> None:
        self._operations[name] = {"action": action, "channel": _ref("channels", name), "summary": about}

    def _named(self, channel: str, *messages: str) -> list[Json]:
        return [_ref("channels", channel, "messages", message) for message in messages]

    def _message(self, name: str, *forms: Model, headers: Json | None = None) -> str:
        """A message of one of these forms; returns its name."""
        self._payloads[name] = forms
        about = (forms[0].__doc__ or "").partition("\n")[0] if len(forms) == 1 else ""
        self._messages[name] = {"name": name} | ({"summary": about} if about else {}) | _given("headers", headers)
        return name

    def _schemas(self) -> Json:
        """Every schema by its name; gives the messages their payloads."""
        modes: dict[Model, JsonSchemaMode] = {}
        for form in (form for forms in self._payloads.values() for form in forms):
            modes[form] = "validation" if form in REQUESTS.values() else "serialization"
        refs, found = models_json_schema(
            list(modes.items()), by_alias=True, ref_template="#/components/schemas/{model}"
        )
        for name, forms in self._payloads.items():
            payloads = [refs[form, modes[form]] for form in forms]
            self._messages[name]["payload"] = payloads[0] if len(payloads) == 1 else {"oneOf": payloads}
        return dict(found["$defs"])


def _ref(*path: str) -> Json:
    return {"$ref": "#/" + "/".join(path)}


def _given(name: str, value: Json | None) -> Json:
    return {} if value is None else {name: value}
