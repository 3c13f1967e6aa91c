"""Takes out of an answer what can't be the same on two servers, and keeps what must be.

Uids, times and addresses become placeholders. A resourceVersion becomes its rank among those seen of the same object,
so that "unchanged" and "changed" still show. What controllers write behind our back (status, their managedFields) goes.
"""

from __future__ import annotations

import re
from typing import Any

from tests.cluster.differential.steps import Answer, Json

# Controllers write to these at a time of their own: their versions and status say nothing about the API.
RESTLESS = {
    *("Deployment", "ReplicaSet", "Job", "Namespace", "ResourceQuota", "ServiceAccount"),
}
CONTROLLERS = {"kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver"}
PUT_BY_CONTROLLERS = {"kube-root-ca.crt", "default"}  # in every namespace, sooner or later
CONTROLLER_ANNOTATIONS = {"deployment.kubernetes.io/revision"}

UID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")
TOKEN_VOLUME = re.compile(r"\bkube-api-access-\w{5}\b")
SYSTEM_ROLE = re.compile(r'(ClusterRole(?:Binding)?) "system:[^"]*"')  # several allow the same: any of them is named
BIG_NUMBER = re.compile(r"\b\d{2,}\b")


class Normaliser:
    """One scenario on one server: it knows the namespaces' names and the versions seen so far."""

    def __init__(self, names: dict[str, str]) -> None:
        """`names`: real name → the name to show."""
        self._names = sorted(names.items(), key=lambda pair: -len(pair[0]))
        self._versions: dict[str, list[str]] = {}

    def __call__(self, answer: Answer) -> Json:
        """Code, media type, warnings and body as one comparable value."""
        return {
            "code": answer.code,
            "media": answer.media,
            "warnings": [self._text("warning", warning) for warning in answer.warnings],
            "body": self._events(answer.body) if isinstance(answer.body, list) else self._body(answer.body),
        }

    def _events(self, events: list[Json]) -> Json:
        """A watch: bookmarks come when the server likes, so only that there were any is kept."""
        kept = [
            {"type": one["type"], "object": self._body(one["object"])} for one in events if one["type"] != "BOOKMARK"
        ]
        return {"events": kept, "bookmarked": len(kept) < len(events)}

    def _body(self, body: Json, kind: str = "") -> Json:
        """An object, a list of objects, a Status, or text."""
        if not isinstance(body, dict):
            return self._text("", body) if isinstance(body, str) else body
        kind = body.get("kind", kind)
        if kind == "Status":
            return self._status(body)
        for key in ("resources", "groups"):  # of discovery: the order means nothing
            if isinstance(body.get(key), list) and kind.startswith("API"):
                body = {**body, key: {entry["name"]: entry for entry in body[key]}}
        shown = {key: value for key, value in body.items() if key not in ("metadata", "items", "status")}
        result = self._value("", shown)
        if isinstance(body.get("metadata"), dict):
            result["metadata"] = self._metadata(body["metadata"], kind)
        if "status" in body and (kind not in RESTLESS or kind == "Namespace"):
            result["status"] = self._value("status", body["status"])
        if isinstance(body.get("items"), list):
            items = [item for item in body["items"] if item["metadata"]["name"] not in PUT_BY_CONTROLLERS]
            result["items"] = [self._body(item, kind.removesuffix("List")) for item in items]
        return result

    def _status(self, status: Json) -> Json:
        """A Status; the order of its causes means nothing, nor that some checks are made twice."""
        result = self._value("", {key: value for key, value in status.items() if key != "metadata" and value != {}})
        if causes := result.get("details", {}).get("causes"):
            causes.sort(key=lambda cause: str(cause.get("message")), reverse=True)
            by_place = {(cause.get("field", ""), cause.get("reason", "")): cause for cause in causes}
            result["details"]["causes"] = [by_place[place] for place in sorted(by_place)]
        return result

    def _metadata(self, metadata: Json, kind: str) -> Json:
        known = {key: value for key, value in metadata.items() if key not in ("resourceVersion", "managedFields")}
        result = self._value("metadata", known)
        if version := metadata.get("resourceVersion"):
            result["resourceVersion"] = self._version(version, metadata.get("uid", ""), kind)
        if prefix := metadata.get("generateName"):
            result["name"] = f"{self._text('', prefix)}<suffix>"
        if annotations := result.get("annotations"):
            result["annotations"] = {
                key: value for key, value in annotations.items() if key not in CONTROLLER_ANNOTATIONS
            }
            if not result["annotations"]:
                del result["annotations"]
        if fields := _managed_fields(metadata.get("managedFields", []), kind):
            result["managedFields"] = self._value("managedFields", fields)
        return result

    def _version(self, version: str, uid: str, kind: str) -> str:
        if not uid or kind in RESTLESS:
            return "<version>"
        seen = self._versions.setdefault(uid, [])
        if version not in seen:
            seen.append(version)
        return f"<version {seen.index(version) + 1}>"

    def _value(self, key: str, value: Json) -> Json:
        if isinstance(value, dict):
            return {self._text("", name): self._value(name, part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._value(key, part) for part in value]
        if key in ("nodePort", "healthCheckNodePort") and value:
            return "<port>"
        return self._text(key, value) if isinstance(value, str) else value

    def _text(self, key: str, text: str) -> str:
        if key == "continue" and text:
            return "<continue>"
        for name, shown in self._names:
            text = text.replace(name, shown)
        text = TOKEN_VOLUME.sub("kube-api-access-<suffix>", TIME.sub("<time>", UID.sub("<uid>", text)))
        if key in ("clusterIP", "clusterIPs"):
            text = ADDRESS.sub("<address>", text)
        if key == "message":
            text = BIG_NUMBER.sub("<number>", text)
        return SYSTEM_ROLE.sub(r'\1 "system:<name>"', text)


def _managed_fields(entries: list[Any], kind: str) -> list[Json]:
    """What clients own, without times, in an order that does not depend on them."""
    kept = [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in entries
        if entry.get("manager") not in CONTROLLERS and not (kind in RESTLESS and entry.get("subresource") == "status")
    ]
    return sorted(kept, key=lambda entry: (entry["operation"], entry["manager"], entry.get("subresource", "")))
