"""What a request asks for: its verb and object from method, path and query, its options, the form of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.cluster.standin.auth import Attributes
from tests.cluster.standin.resources import BY_PATH, Resource
from tests.cluster.standin.status import ApiError, Cause, invalid, not_acceptable
from tests.cluster.standin.values import Object

METHODS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get", "DELETE": "delete"}
PRODUCED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


@dataclass(frozen=True)
class Asked:
    """A request below a resource. `resource` is None if the server has no such type."""

    verb: str
    group: str
    plural: str
    resource: Resource | None
    namespace: str
    name: str
    subresource: str
    query: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False  # metadata only
    of_list: bool = False  # of a list: a watch, whose events are no lists, then shows none

    @property
    def attributes(self) -> Attributes:
        """What has to be allowed: a list that can only hold one name counts as being about that name."""
        single = re.search(r"(?:^|,)metadata\.name==?([^,]+)", self.query.get("fieldSelector", ""))
        name = self.name or (single[1] if single and self.verb in ("list", "watch", "deletecollection") else "")
        return Attributes(self.verb, self.group, self.plural, self.subresource, self.namespace, name)


def parse(method: str, path: str, query: Mapping[str, str], accept: str) -> Asked | None:
    """What is asked for; None if the path is not below a resource."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watched = rest[0] == "watch" and len(rest) > 1
    rest = rest[1:] if watched else rest
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    elif rest[0] == "namespaces" and len(rest) > 1 and not group:
        namespace = rest[1]
    plural, name, subresource = [*rest, "", ""][:3]
    verb = _verb(method, name, watching=watched or (not name and _true(query.get("watch", ""))))
    resource = BY_PATH.get((group, version, plural))
    partial = _partial(accept)
    if resource is not None:
        _check_form(resource, verb, partial)
    return Asked(verb, group, plural, resource, namespace, name, subresource, query, bool(partial), partial == LIST)


def _verb(method: str, name: str, *, watching: bool) -> str:
    verb = METHODS.get(method, method.lower())
    if verb == "get" and watching:
        return "watch"
    if not name and verb in ("get", "delete"):
        return {"get": "list", "delete": "deletecollection"}[verb]
    return verb


def _true(text: str) -> bool:
    return text.lower() in ("true", "1", "t")


ONE, LIST = "PartialObjectMetadata", "PartialObjectMetadataList"


def _check_form(resource: Resource, verb: str, partial: str) -> None:
    """ApiError 406 where the metadata of a list is wanted of one object, or the other way round."""
    if partial == ONE and verb == "list":
        raise ApiError(
            406, "NotAcceptable", f"you requested {ONE}, but the requested object is a list ({resource.kind}List)"
        )
    if partial == LIST and verb not in ("list", "watch", "delete", "deletecollection"):
        raise ApiError(
            406, "NotAcceptable", f"you requested {LIST}, but the requested object is not a list ({resource.kind})"
        )


def _partial(accept: str) -> str:
    """Whether only metadata is wanted, of one or of a list; ApiError 406 if nothing that is wanted can be given."""
    for media in accept.split(","):
        kind, *parameters = [part.strip() for part in media.split(";")]
        options = dict(part.partition("=")[::2] for part in parameters)
        if kind not in ("", "*/*", "application/*", "application/json"):
            continue
        wanted = options.get("as", "")
        if wanted in (ONE, LIST) and options.get("g") == "meta.k8s.io":
            return wanted
        if not wanted:
            return ""
    raise not_acceptable(PRODUCED)


def flag(query: Mapping[str, str], name: str) -> bool:
    return _true(query.get(name, ""))


def number(query: Mapping[str, str], name: str) -> int | None:
    """A numeric option; ApiError 400 for text."""
    text = query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, "BadRequest", f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


@dataclass(frozen=True)
class WriteOptions:
    """The query of a write."""

    manager: str
    dry_run: bool
    validation: str  # Strict, Warn or Ignore
    force: bool


def write_options(kind: str, request: web.BaseRequest, *, applied: bool = False) -> WriteOptions:
    """The options of a write; ApiError 422 about `kind` (CreateOptions, UpdateOptions, PatchOptions)."""
    query = request.query
    wrong = _wrong_options(kind, query, applied=applied)
    if wrong:
        raise invalid("meta.k8s.io", kind, "", wrong)
    agent = request.headers.get("User-Agent", "").partition("/")[0][:128] or "unknown"
    manager = query.get("fieldManager") or agent
    validation = query.get("fieldValidation") or "Warn"
    return WriteOptions(manager, "dryRun" in query, validation, flag(query, "force"))


def _wrong_options(kind: str, query: Mapping[str, str], *, applied: bool) -> list[Cause]:
    wrong = []
    if applied and not query.get("fieldManager"):
        wrong.append(Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager"))
    if "force" in query and not applied and kind == "PatchOptions":
        wrong.append(Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force"))
    manager = query.get("fieldManager", "")
    if len(manager) > 128:
        wrong.append(Cause("FieldValueTooLong", "Too long: may not be more than 128 bytes", "fieldManager"))
    if manager and not manager.isprintable():
        told = f'Invalid value: "{manager}": should only contain printable characters'
        wrong.append(Cause("FieldValueInvalid", told, "fieldManager"))
    wrong += one_of(query.get("dryRun", "All"), ("All",), "dryRun")
    if query.get("fieldValidation"):
        wrong += one_of(query["fieldValidation"], ("Ignore", "Strict", "Warn"), "fieldValidation")
    return wrong


def one_of(value: Any, allowed: tuple[str, ...], field_path: str) -> list[Cause]:
    if value in allowed:
        return []
    told = ", ".join(f'"{each}"' for each in allowed)
    message = f'Unsupported value: "{value}": supported values: {told}'
    return [Cause("FieldValueNotSupported", message, field_path)]


def partial_view(obj: Object) -> Object:
    """The object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
